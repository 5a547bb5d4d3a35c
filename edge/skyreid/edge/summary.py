"""What would run, in words: ``skyreid-edge check``."""

from __future__ import annotations

from skyreid.contract.sealed import key_name
from skyreid.edge.app import Plan
from skyreid.edge.telemetry import feeds


def describe(plan: Plan) -> dict[str, str]:
    """What would run, by name."""
    settings = plan.settings
    return {
        "site": f"{plan.site.id}, pictures {plan.site.pictures}",
        "device": settings.device.id,
        "camera": f"{plan.camera.id} ({plan.view.word}), modality {settings.camera.modality}, "
        + (
            "poses known"
            if plan.poses
            else feeds.described(
                settings.telemetry, None if plan.terrain is None else plan.terrain.lowered_m
            )
        ),
        "source": plan.source.name
        + ("" if settings.camera.tls_verify else ", its certificate is not verified"),
        "pipeline": plan.pipeline,
        "detector": str(settings.detector.model),
        "embedder": f"{plan.embedder.model.name}, model key {plan.embedder.model.key}",
        "runner": plan.embedder.runner,
        "broker": settings.mqtt.url,
        "spool": f"{settings.spool.path}, "
        + ("not sealed" if plan.seal_key is None else f"sealed to key {key_name(plan.seal_key)}"),
    }
