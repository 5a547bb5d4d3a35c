"""A clip with known truth, as the rendered world writes it: videos, ``gt/``, ``calib.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chain import Chain, ChainError
from videos import COMMON_ZERO_NS, Video

AERIAL = range(1, 6)
"""Cameras 1 to 5 of a clip are aerial, as in the CARGO data set."""
RENDERED = "RENDERED PEOPLE"


def clip_chain(clip: Path, work: Path, *, geometry: bool = True, **options: Any) -> Chain:
    """The chain over every camera of a clip, aerial first.

    Args:
        clip: the clip's folder.
        work: where the chain writes.
        geometry: with the cameras' poses.
        options: of `Chain`.

    Raises:
        ChainError: the folder is not a clip.
    """
    poses = clip.resolve() / "calib.json" if geometry else None
    return Chain(
        videos_of(clip),
        work,
        poses=poses,
        notice=RENDERED if (clip / "world.csv").exists() else "",
        **options,
    )


def videos_of(clip: Path) -> tuple[Video, ...]:
    """Videos of a clip, aerial first, all begun at one moment.

    Raises:
        ChainError: the folder is not a clip.
    """
    for needed in ("calib.json", "gt"):
        if not (clip / needed).exists():
            raise ChainError(
                f"{clip} is not a clip: it has no {needed} (see examples/clip/README.md)"
            )
    numbers = sorted(int(p.stem.removeprefix("cam")) for p in clip.glob("cam*.mp4"))
    if not numbers:
        raise ChainError(f"{clip} is not a clip: it has no cam*.mp4")
    return tuple(
        Video(
            f"cam{n}",
            "aerial" if n in AERIAL else "ground",
            str((clip / f"cam{n}.mp4").resolve()),
            "given",
            COMMON_ZERO_NS,
            length_s=_length_s(clip, n),
        )
        for n in numbers
    )


def _length_s(clip: Path, number: int) -> float | None:
    """Length of a camera's video, by the last frame of its ground truth."""
    entry = json.loads((clip / "calib.json").read_text()).get(str(number))
    truth = clip / "gt" / f"cam{number}.txt"
    if entry is None or not truth.exists():
        return None
    rows = truth.read_text().split()
    return max((int(row.split(",")[0]) for row in rows), default=0) / float(entry["fps"])
