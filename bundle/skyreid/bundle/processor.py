"""The processor of this machine, as Linux tells of it."""

from __future__ import annotations

from pathlib import Path

_TOLD = Path("/proc/cpuinfo")


def told() -> dict[str, str]:
    """What is said of one of its cores, by name; empty where nothing is."""
    try:
        lines = _TOLD.read_text().splitlines()
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def flags() -> frozenset[str]:
    """Its instruction sets, in Linux's words (`avx2`, on Arm `asimd`)."""
    said = told()
    return frozenset(said.get("flags", said.get("Features", "")).split())
