"""``skyreid-export bundle MODEL.onnx --kind detector``: the options of a bare file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.errors import InputError, PlatformError
from skyreid.export.declared import CHOICES

if TYPE_CHECKING:
    from skyreid.export.proof import Pictures

_DECLARED = (*CHOICES, "person")
_OWN = ("family", "size", "score_min", *_DECLARED)
_WHAT = {
    "layout": "order of the axes of the bare detector's input",
    "channels": "order of its planes",
    "range": "what it wants pixels of 0..255 to be",
    "fit": "how a picture is scaled into it",
    "scores": "what has yet to be done to its class scores",
}
_EMBEDDERS = ("pictures", "aerial", "ag_reid_c2", "score_priors", "form")


def add_options(parser: argparse.ArgumentParser) -> None:
    """What only a bare file is asked."""
    parser.add_argument("--kind", choices=("detector",), help="MODEL is a bare .onnx of that kind")
    parser.add_argument(
        "--family", help="of the bare detector: yolox, yolov8, detr or nms-in-graph"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="of the bare detector's input, where the file leaves it open",
    )
    parser.add_argument(
        "--score-min", type=float, help="default threshold of the bare detector (the family's)"
    )
    for name, what in _WHAT.items():
        parser.add_argument(f"--{name}", choices=CHOICES[name], help=f"{what} (the family's)")
    parser.add_argument(
        "--person", type=int, help="place of the person among the bare detector's classes (0)"
    )


def refuse(options: argparse.Namespace) -> None:
    """Raise `InputError` for an option of a bare file without its kind, or for such a file."""
    for option in _OWN:
        if getattr(options, option) is not None:
            raise InputError(
                f"{_flag(option)}: is for a bare .onnx, which says --kind detector, and a "
                "checkpoint knows it: leave it out"
            )
    if options.checkpoint.suffix.lower() == ".onnx":
        raise InputError(
            f"{options.checkpoint}: a bare .onnx does not say what it is: --kind detector --family "
            "yolox, for one"
        )


def require_texts(options: argparse.Namespace) -> None:
    """Raise `InputError` for what cannot stand in a manifest, before minutes of work."""
    for option in ("name", "notes", "licence"):
        text = getattr(options, option) or ""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"--{option} {text!r}: is no UTF-8; give another (the name is by default that of "
                "the directory to make)"
            ) from error


def wrap(options: argparse.Namespace) -> int:
    """Write the bundle; returns the exit code.

    Raises:
        SkyreidError: an option is missing or too many, or what the wrapping itself raises.
    """
    if options.family is None:
        raise InputError(
            "--family: of the detector, yolox, yolov8, detr or nms-in-graph; nothing is guessed "
            "from a file"
        )
    for option in _EMBEDDERS:
        if getattr(options, option):
            raise InputError(
                f"{_flag(option)}: is for embedders, and this is a detector; leave it out"
            )
    if options.view not in (None, "any") or options.io != "kit":
        raise InputError("--view, --io: a detector serves any view, in a bundle; leave them out")
    try:
        from skyreid.export import wrap as wrapping
    except ImportError as error:
        raise PlatformError(
            f"{error.name} is not installed: pip install 'skyreid[export]'"
        ) from error
    bundle = wrapping.wrap(
        options.checkpoint,
        options.out,
        family=options.family,
        pictures=lambda: proof_pictures(options.golden),
        said={name: getattr(options, name) for name in _DECLARED},
        name=options.name,
        size=None if options.size is None else tuple(options.size),
        score_min=options.score_min,
        formats=() if options.formats is None else tuple(options.formats.split(",")),
        licence=options.licence or "NOASSERTION",
        notes=options.notes,
        say=lambda line: sys.stderr.write(f"{line}\n"),
    )
    sys.stdout.write(f"{bundle.path}\n")
    return 0


def proof_pictures(golden: Path | None) -> Pictures:
    """Pictures of somebody's own, or drawn ones, whose people's places are known.

    Raises:
        InputError: there are fewer than eight, or one cannot be read.
    """
    from skyreid.export.drawn import draw
    from skyreid.export.proof import pictures_of

    return draw() if golden is None else pictures_of(golden)


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"
