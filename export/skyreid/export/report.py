"""What a bundle says about itself, verified, as one JSON-ready object."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.signature import ANYONE, Trust

_LEAST = ("gap", "gap_kept", "spread", "rank1_agreement", "rank5_agreement")
"""Measures of which the smallest is the worst."""


def inspect(path: Path, trust: Trust = ANYONE) -> dict[str, Any]:
    """The manifest, digest, sizes and parity of a verified bundle; raises `BundleError`."""
    bundle = open_bundle(path, trust)
    return {
        "path": str(path),
        "sha256": bundle.sha256,
        "manifest": bundle.manifest.model_dump(mode="json"),
        "files": {name: len(data) for name, data in sorted(bundle.files.items())},
        "parity": bundle.parity(),
    }


def as_lines(facts: dict[str, Any]) -> list[str]:
    """The same for people, a line a fact."""
    manifest = facts["manifest"]
    lines = [
        f"{manifest['name']}: {manifest['kind']}, view {manifest['view']}, {manifest['licence']}",
        f"bundle     {facts['sha256']}",
        f"checkpoint {manifest['checkpoint_sha256']}",
    ]
    if manifest["kind"] == "embedder":
        size = f"{manifest['input']['width']} x {manifest['input']['height']}"
        lines.append(
            f"model key  {manifest['model_key']}, input {size}, {manifest['embedding_dim']}-d"
        )
    else:
        detector = manifest["detector"]
        size = f"{manifest['input']['width']} x {manifest['input']['height']} pixels"
        if not manifest["input"]["height"]:
            size = f"stride {detector['stride']}, sides multiples of {detector['align']}"
        lines.append(f"{detector['family']}, {size}, default score {detector['score_min']}")
    lines.append(f"formats    {', '.join(manifest['formats'])}, opset {manifest['opset']}")
    lines += [f"{size:>11,} {name}" for name, size in facts["files"].items()]
    for label, gates in facts["parity"].get("gates", {}).items():
        worst = {against: max(values.values()) for against, values in gates.items()}
        lines.append(
            f"parity {label}: "
            + ", ".join(f"{against} {value:.1e}" for against, value in worst.items())
        )
    for name in ("fp16", "int8"):
        if "mean_cosine" in (close := facts["parity"].get(name, {})):
            lines.append(
                f"parity {name}: cosine to fp32 {close['mean_cosine']:.5f} on average, "
                f"{close['min_cosine']:.5f} at worst"
            )
    verified = facts["parity"].get("verified")
    return lines + (["never verified"] if verified is None else _verified(verified))


def for_json(value: Any) -> Any:
    """A copy in which numbers that are none are null, for JSON has no NaN."""
    if isinstance(value, dict):
        return {key: for_json(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def verified_lines(facts: dict[str, dict[str, Any]]) -> list[str]:
    """What `verify` found, for people, by bundle."""
    return [line for path, found in facts.items() for line in (path, *_verified(found))]


def _verified(found: dict[str, Any]) -> list[str]:
    lines = []
    for name, batches in found["batches"].items():
        worst: dict[str, float] = {}
        for measured in batches.values():
            for measure, value in measured.items():
                number = math.nan if value is None else value
                pick = np.minimum if measure in _LEAST or "cosine" in measure else np.maximum
                worst[measure] = float(pick(worst.get(measure, number), number))  # NaN stays
        shown = ", ".join(f"{measure} {value:.6g}" for measure, value in worst.items())
        lines.append(
            f"{name} to {found['reference']} at batch {', '.join(batches)}, the worst: {shown}"
        )
    search = found.get("retrieval")
    if search is not None:
        lines.append(f"{search['data']}, {search['pictures']} pictures, percent:")
        for name, protocols in search["protocols"].items():
            scores = "  ".join(
                f"{protocol} R1 {row['rank1']:.2f} mAP {row['mAP']:.2f}"
                for protocol, row in protocols.items()
            )
            lines.append(f"  {name:<9} {scores}")
        for name, shares in search["agreement"].items():
            worst_crop = search["worst"][name][0]
            lines.append(
                f"  {name}: nearest picture as in {search['reference']} for "
                f"{100 * shares['rank1']:.1f} %, among the five nearest for "
                f"{100 * shares['rank5']:.1f} %; worst crop {worst_crop['path']}, cosine "
                f"{worst_crop['cosine']:.5f}"
            )
    not_shown = found.get("not_shown", [])
    lines += [f"  {line}" for line in not_shown]
    if found["failures"]:
        return [*lines, "NOT VERIFIED"]
    return [*lines, _claim(found, len(not_shown))]


def _claim(found: dict[str, Any], not_shown: int) -> str:
    """What may be said of a bundle of which nothing failed: what was tested, and no more."""
    batches = ", ".join(next(iter(found["batches"].values()), ()))
    tested = f"{found['pictures']} pictures at batch {batches} against {found['reference']}"
    search = found.get("retrieval")
    if found.get("kind") == "detector":
        return f"verified: {tested}"
    if search is None:
        return f"verified: {tested}; no search was tested (--data)"
    losses = sum(len(both) for table in search.get("loss", {}).values() for both in table.values())
    tested += f", and a search of {search['pictures']}"
    if not not_shown:
        return f"verified: {tested}"
    return f"NOT SHOWN: {not_shown} of {losses} losses of the search (above); tested: {tested}"
