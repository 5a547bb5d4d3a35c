"""The command line of the synthetic world: `synth clip`, `synth crops`, `synth cutouts`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from skyreid.contract.errors import PlatformError
from skyreid.synth.options import (
    ALTITUDES,
    CAMERAS,
    CODECS,
    HOURS,
    LAYOUTS,
    PATHS,
    PLACES,
    SEVERAL_HOURS,
    SEVERAL_PLACES,
    WARDROBES,
    ClipOptions,
    CropsOptions,
    StockOptions,
)
from skyreid.synth.telemetry import LEVELS

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Register `synth` with its verbs; `namespace.run(namespace)` runs the chosen one."""
    synth = subparsers.add_parser("synth", help="render synthetic data with exact labels")
    add_verbs(synth.add_subparsers(title="verbs", required=True, metavar="VERB"))


def add_verbs(verbs: Subparsers) -> None:
    """Register `clip`, `crops` and `cutouts`."""
    clip = verbs.add_parser("clip", help="a clip of several cameras with tracks and calibration")
    clip.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    clip.add_argument("--seed", type=int, default=0, help="of the place, people, light and looks")
    clip.add_argument("--seconds", type=float, default=20.0, metavar="S")
    clip.add_argument("--fps", type=int, default=8)
    clip.add_argument("--people", type=int, default=16, metavar="N")
    clip.add_argument(
        "--family", type=int, default=4, metavar="N", help="look-alikes that share most clothes"
    )
    clip.add_argument("--cameras", type=_numbers, default=(1, 3, 6, 8, 12), metavar="N,N,...")
    clip.add_argument("--width", type=int, default=1280, metavar="PX", help="of a 16:9 picture")
    clip.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    clip.add_argument(
        "--camera-jitter", type=float, default=0.0, metavar="X", help="0 this rig, 1 another site"
    )
    clip.add_argument(
        "--oversample", type=float, default=1.0, metavar="X", help="smoother edges; costs X squared"
    )
    clip.add_argument("--noise", type=float, default=1.0, metavar="X", help="factor of the noise")
    clip.add_argument("--crf", type=int, default=23, help="x264 quality, lower is better")
    clip.add_argument(
        "--telemetry",
        choices=LEVELS,
        help="also write cam{n}.ts with the drones' KLV, this far from the truth",
    )
    clip.add_argument("--path", choices=PATHS, default="hover", help="how the drones fly")
    clip.add_argument(
        "--layout", choices=LAYOUTS, default="together", help="whether the views overlap"
    )
    clip.add_argument(
        "--rim", type=float, default=0.0, metavar="X", help="part of the people no drone sees"
    )
    clip.add_argument(
        "--visit", type=int, default=0, metavar="N", help="of the same people: they go other ways"
    )
    clip.add_argument("--hour", choices=HOURS, default="day", help="of the light")
    clip.add_argument("--place", choices=PLACES, default="plaza")
    _add_world(clip)
    clip.add_argument("--codec", choices=CODECS, default="h264", help="of the videos")
    clip.add_argument("--preview", action="store_true", help="write a contact sheet, preview.png")
    clip.set_defaults(run=_run_clip)

    crops = verbs.add_parser("crops", help="a CARGO-shaped set of crops")
    crops.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    crops.add_argument("--people", type=int, default=40, metavar="N")
    crops.add_argument("--cameras", type=_numbers, default=CAMERAS, metavar="N,N,...")
    crops.add_argument("--frames", type=int, default=3, metavar="N", help="per person and camera")
    crops.add_argument("--seed", type=int, default=0)
    crops.add_argument(
        "--test", type=float, default=0.5, metavar="X", help="part of the families to test on"
    )
    crops.add_argument(
        "--jitter", type=float, default=1.0, metavar="X", help="change of light within a camera"
    )
    crops.add_argument(
        "--place", choices=SEVERAL_PLACES, default="plaza", help="mixed: family by family"
    )
    crops.add_argument(
        "--hour",
        choices=SEVERAL_HOURS,
        default="mixed",
        help="mixed: night for cameras 4, 9 and 13; file names call dusk night",
    )
    _add_world(crops)
    crops.add_argument(
        "--clutter",
        type=float,
        default=0.0,
        metavar="X",
        help="part of the pictures whose background is other clutter than the place",
    )
    crops.add_argument(
        "--cut", type=float, default=0.0, metavar="X", help="part in which the frame cuts people"
    )
    crops.add_argument("--jobs", type=int, default=1, metavar="N", help="processes")
    crops.add_argument("--preview", action="store_true", help="write a contact sheet, preview.png")
    crops.set_defaults(run=_run_crops)

    cutouts = verbs.add_parser("cutouts", help="people and things alone, to train a detector with")
    cutouts.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    cutouts.add_argument("--people", type=int, default=1600, metavar="N")
    cutouts.add_argument("--things", type=int, default=300, metavar="N")
    cutouts.add_argument("--seed", type=int, default=0)
    cutouts.add_argument(
        "--empty", type=Path, nargs="+", default=[], metavar="VIDEO", help="real, showing nobody"
    )
    cutouts.add_argument("--frames-each", type=int, default=80, metavar="N", help="of such a video")
    cutouts.add_argument(
        "--preview", action="store_true", help="write a contact sheet, preview.png"
    )
    cutouts.set_defaults(run=_run_cutouts)


def _add_world(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--altitude", choices=ALTITUDES, default="standard", help="how high and steep the drones"
    )
    verb.add_argument(
        "--wardrobe",
        choices=WARDROBES,
        default="vivid",
        help="everyday: muted, look-alikes of one colour that differ by cut, hair, bag and cloth",
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a list of camera numbers such as 1,3,6"
        ) from None


def _run_clip(args: argparse.Namespace) -> int:
    options = ClipOptions(
        out=args.out,
        seed=args.seed,
        seconds=args.seconds,
        fps=args.fps,
        people=args.people,
        family=args.family,
        cameras=args.cameras,
        width_px=args.width,
        jobs=args.jobs,
        camera_jitter=args.camera_jitter,
        oversample=args.oversample,
        noise=args.noise,
        crf=args.crf,
        telemetry=args.telemetry,
        path=args.path,
        layout=args.layout,
        rim=args.rim,
        visit=args.visit,
        hour=args.hour,
        place=args.place,
        altitude=args.altitude,
        wardrobe=args.wardrobe,
        codec=args.codec,
        preview=args.preview,
    )
    _need_renderer()
    from skyreid.synth.clip import clip

    start = time.monotonic()
    clip(options)
    pictures = options.frame_count * len(options.cameras)
    rate = pictures / (time.monotonic() - start)
    sys.stderr.write(f"{options.out}: {pictures} pictures, {rate:.2f} a second\n")
    return 0


def _run_crops(args: argparse.Namespace) -> int:
    options = CropsOptions(
        out=args.out,
        people=args.people,
        cameras=args.cameras,
        frames=args.frames,
        seed=args.seed,
        test=args.test,
        jitter=args.jitter,
        place=args.place,
        hour=args.hour,
        altitude=args.altitude,
        wardrobe=args.wardrobe,
        clutter=args.clutter,
        cut=args.cut,
        jobs=args.jobs,
        preview=args.preview,
    )
    _need_renderer()
    from skyreid.synth.crops import crops

    start = time.monotonic()
    count = crops(options)
    rate = count.written / (time.monotonic() - start)
    sys.stderr.write(
        f"{options.out}: {count.written} crops, {rate:.1f} a second, "
        f"{count.missing} found no place with a clear enough view\n"
    )
    return 0


def _run_cutouts(args: argparse.Namespace) -> int:
    options = StockOptions(
        out=args.out,
        people=args.people,
        things=args.things,
        seed=args.seed,
        empty=tuple(args.empty),
        frames_each=args.frames_each,
    )
    _need_renderer()
    from skyreid.synth.pasted.stock import make_stock

    make_stock(options)
    if args.preview:
        from skyreid.synth.pasted.sheet import write_sheets

        write_sheets(args.out)
    sys.stderr.write(f"{options.out}: {options.people} people, {options.things} things\n")
    return 0


def _need_renderer() -> None:
    """Say which extra is missing before a traceback does."""
    try:
        import av
        import cv2
        import numba
        import tqdm
    except ImportError as error:
        raise PlatformError(
            f"the synthetic world needs {error.name}: pip install 'skyreid[synth]'"
        ) from error
    del av, cv2, numba, tqdm
