"""What a bundle says about itself, verified, as one JSON-ready object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from skyreid.bundle.archive import open_bundle


def inspect(path: Path) -> dict[str, Any]:
    """The manifest, digest, sizes and parity of a verified bundle; raises `BundleError`."""
    bundle = open_bundle(path)
    return {
        "path": str(path),
        "sha256": bundle.sha256,
        "manifest": bundle.manifest.model_dump(mode="json"),
        "files": {name: len(data) for name, data in sorted(bundle.files.items())},
        "parity": json.loads(bundle.files["parity.json"]),
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
        lines.append(
            f"stride {detector['stride']}, sides multiples of {detector['align']}, "
            f"default score {detector['score_min']}"
        )
    lines.append(f"formats    {', '.join(manifest['formats'])}, opset {manifest['opset']}")
    lines += [f"{size:>11,} {name}" for name, size in facts["files"].items()]
    for label, gates in facts["parity"].get("gates", {}).items():
        worst = {against: max(values.values()) for against, values in gates.items()}
        lines.append(
            f"parity {label}: "
            + ", ".join(f"{against} {value:.1e}" for against, value in worst.items())
        )
    return lines
