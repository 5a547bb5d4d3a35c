"""How well a device tells colour from grey: clips as they are, and the same without their colours.

    python bench/modality.py CLIP [CLIP ...]

Each clip is looked at as it is and as a grey camera would have sent it: its chroma taken out, with
noise or without, and then through x264. A row holds the least, middle and largest measure of its
pictures, how many of them are on the wrong side (one in between is on none), what a device that
sees them one after the other says, and the milliseconds of CPU a picture.
"""

from __future__ import annotations

import argparse
import io
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from skyreid.contract.sighting import Clock, Modality
from skyreid.edge.people.quality import COLOUR_LEAST, GREY_MOST, Seeing, chroma
from skyreid.edge.video.frame import Frame, Planes

UInt8 = NDArray[np.uint8]
Picture = tuple[UInt8, UInt8, UInt8]
Change = Callable[[Picture], Picture]


def pictures(video: str | io.BytesIO) -> Iterator[Picture]:
    """Planes Y, U and V of every picture, uint8 [H, W] and [H/2, W/2]."""
    with av.open(video) as opened:
        for decoded in opened.decode(video=0):
            planes = []
            for plane in decoded.reformat(format="yuv420p").planes:
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                planes.append(rows[:, : plane.width].copy())
            yield planes[0], planes[1], planes[2]


def without(sigma: float) -> Change:
    """Chroma of 128 with noise of so many steps."""
    rng = np.random.default_rng(0)

    def change(picture: Picture) -> Picture:
        luma, u, _ = picture
        one, two = (
            np.clip(np.rint(128 + sigma * rng.standard_normal(u.shape)), 0, 255).astype(np.uint8)
            for _ in range(2)
        )
        return luma, one, two

    return change


def dim(picture: Picture) -> Picture:
    """A quarter of the light, and of the colours."""
    luma, *rest = picture
    one, two = (np.rint(128 + (p.astype(np.float32) - 128) / 4).astype(np.uint8) for p in rest)
    return np.rint(16 + (luma - 16.0) / 4).astype(np.uint8), one, two


def coded(several: list[Picture], crf: int) -> list[Picture]:
    """Through x264 and back."""
    out = io.BytesIO()
    height, width = several[0][0].shape
    with av.open(out, "w", format="matroska") as made:
        stream = made.add_stream("libx264", rate=10, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = (
            width - width % 2,
            height - height % 2,
            "yuv420p",
        )
        sizes = (stream.height, stream.width), *2 * ((stream.height // 2, stream.width // 2),)
        for planes in several:
            parts = [p[:h, :w].ravel() for p, (h, w) in zip(planes, sizes, strict=True)]
            shown = np.concatenate(parts).reshape(stream.height * 3 // 2, stream.width)
            for packet in stream.encode(av.VideoFrame.from_ndarray(shown, format="yuv420p")):
                made.mux(packet)
        for packet in stream.encode():
            made.mux(packet)
    out.seek(0)
    return list(pictures(out))


def row(name: str, several: list[Picture], grey: bool, fps: float) -> str:
    """One line of the table."""
    seeing, said, much = Seeing(Modality.UNKNOWN), Counter[str](), []
    spent_s = 0.0
    for number, (luma, u, v) in enumerate(several):
        at_ns = 10**9 + round(number / fps * 1e9)
        frame = Frame(
            number + 1, at_ns, Clock.FILE, 0, luma.shape[1], luma.shape[0],
            planes=Planes("i420", luma, (u, v)),
        )  # fmt: skip
        began = time.process_time()
        seeing.note(frame)
        spent_s += time.process_time() - began
        said[seeing.modality.word] += 1
        much.append(chroma(frame))
    wrong = sum(m >= COLOUR_LEAST if grey else m <= GREY_MOST for m in much)
    told = ", ".join(f"{word} {count}" for word, count in said.most_common())
    spread, ms = f"{min(much):.1f} {np.median(much):.1f} {max(much):.1f}", 1e3 * spent_s / len(much)
    return f"| {name} | {spread} | {wrong} of {len(much)} | {told} | {ms:.3f} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+", type=Path)
    parser.add_argument("--pictures", type=int, default=100, help="of each clip, evenly spread")
    given = parser.parse_args()
    print("| clip | least, middle, largest | wrong | said | ms |\n|---|---|---|---|---|")
    for clip in given.clips:
        with av.open(str(clip)) as opened:
            stream = opened.streams.video[0]
            rate = float(stream.average_rate or 10)
            step = max(1, (stream.frames or 300) // given.pictures)
        several = [p for n, p in enumerate(pictures(str(clip))) if n % step == 0]
        name, fps = f"{clip.parent.name}/{clip.stem}", rate / step
        is_grey = max(float(np.ptp(p[1])) for p in several) < 8
        print(row(name, several, is_grey, fps), flush=True)
        for what, change in (
            ("no colours", without(0)),
            ("noise 2", without(2)),
            ("noise 6", without(6)),
        ):
            changed = [change(p) for p in several]
            print(row(f"{name}, {what}", changed, True, fps), flush=True)
            print(row(f"{name}, {what}, crf 35", coded(changed, 35), True, fps), flush=True)
        if not is_grey:
            print(row(f"{name}, crf 40", coded(several, 40), False, fps), flush=True)
            print(
                row(f"{name}, a quarter of the light", [dim(p) for p in several], False, fps),
                flush=True,
            )


if __name__ == "__main__":
    main()
