"""A camera goes over to grey: it is measured, and no embedding is of pictures in both."""

from collections.abc import Sequence

import numpy as np
import pytest

from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import Clock, Kind, Modality, Sighting, View
from skyreid.edge.people.collector import Collector
from skyreid.edge.people.quality import COLOUR_LEAST, GREY_MOST, STEADY_S, Seeing, chroma
from skyreid.edge.people.tracker import Track
from skyreid.edge.video.frame import Frame, Planes

UNKNOWN, COLOUR, GREY = Modality.UNKNOWN, Modality.COLOUR, Modality.GREY
HEIGHT, WIDTH, FPS = 360, 640, 8
BOX = np.array([50, 40, 100, 160], np.float32)


def frame(u: np.ndarray, *, at_s: float = 0.0, layout: str = "nv12", luma: int = 90) -> Frame:
    """A picture whose V is as far off grey as its U is on the other side."""
    grey = np.random.default_rng(0).integers(luma - 40, luma + 40, (HEIGHT, WIDTH), np.uint8)
    one, two = (np.clip(128 + s * u, 0, 255).astype(np.uint8) for s in (1, -1))
    if layout == "rgb":
        picture = Planes("i420", grey, (one, two)).rgb(0, 0, WIDTH, HEIGHT)
        return Frame.of_rgb(picture, captured_at_ns=ns(at_s))
    chroma_planes = (np.stack([one, two], 2),) if layout == "nv12" else (one, two)
    planes = Planes(layout, grey, chroma_planes)  # type: ignore[arg-type]
    return Frame(1, ns(at_s), Clock.FILE, 0, WIDTH, HEIGHT, planes=planes)


def ns(at_s: float) -> int:
    return 10**9 + round(at_s * 1e9)


def flat(amount: float) -> np.ndarray:
    some = np.random.default_rng(0).random((HEIGHT // 2, WIDTH // 2))
    return np.floor(amount) + (some < amount % 1)


def patch(amount: float, cells: int) -> np.ndarray:
    """Colour in so many cells of the sixteen across."""
    u = flat(0)
    u[80:120, 100 : 100 + 20 * cells] = amount
    return u


@pytest.mark.parametrize("layout", ["nv12", "i420", "rgb"])
def test_it_is_measured_alike_however_the_decoder_lays_out_its_pictures(layout: str) -> None:
    assert chroma(frame(flat(0), layout=layout)) < 0.5
    assert chroma(frame(flat(20), layout=layout)) == pytest.approx(20, abs=2.0)


@pytest.mark.parametrize("sigma", [2, 4, 6])
def test_noise_in_the_chroma_of_a_grey_picture_is_no_colour(sigma: float) -> None:
    noise = np.random.default_rng(1).normal(0, sigma, (HEIGHT // 2, WIDTH // 2))
    assert chroma(frame(noise)) < COLOUR_LEAST
    assert chroma(frame(np.rint(noise * 0.5))) <= GREY_MOST


def test_a_dull_street_with_one_thing_in_colour_is_in_colour_and_a_lamp_alone_is_not() -> None:
    assert chroma(frame(patch(12, 6))) > COLOUR_LEAST
    assert chroma(frame(patch(60, 1))) <= GREY_MOST


def seen(amounts: Sequence[float], said: Modality = UNKNOWN) -> list[tuple[str, bool]]:
    seeing, out = Seeing(said), []
    for number, amount in enumerate(amounts):
        seeing.note(frame(flat(amount), at_s=number / FPS))
        out.append((seeing.modality.word, seeing.steady))
    return out


def test_the_first_plain_picture_says_it_and_a_second_of_others_says_that_it_changed() -> None:
    told = seen([1.5, 9] + [0] * 12 + [1.5] * 12 + [9] * 12)
    assert told[0] == ("unknown", True)  # neither plainly grey nor in colour
    assert told[1] == ("colour", True)
    held = round(STEADY_S * FPS)
    assert told[2 : 2 + held] == [("colour", False)] * held
    assert told[2 + held : 26] == [("grey", True)] * (24 - held)  # in between: as before
    assert told[26 : 26 + held] == [("grey", False)] * held
    assert told[-1] == ("colour", True)


def test_a_flash_of_grey_changes_nothing_and_what_was_said_is_not_measured() -> None:
    assert {word for word, _ in seen([9] * 4 + [0] * 6 + [9] * 8)} == {"colour"}
    assert set(seen([9] * 4 + [0] * 20, Modality.INFRARED)) == {("infrared", True)}
    assert set(seen([0] * 20, COLOUR)) == {("colour", True)}


def embed(crops: np.ndarray) -> np.ndarray:
    """A grey crop looks like nobody in colour."""
    spread = crops.reshape(len(crops), -1, 3).astype(np.float32)
    grey = np.ptp(spread.mean(1), axis=1) < 6
    return np.stack([~grey, grey], 1).astype(np.float32)


def play(amounts: Sequence[float], gone_after: int | None = None) -> list[Sighting]:
    """Somebody stands still in front of a camera, or is gone after a frame."""
    collector = Collector(
        embed, InputSpec(height=32, width=16), camera="cam1", view=View.GROUND, like_min=0.5
    )
    said = []
    for number, amount in enumerate(amounts):
        there = gone_after is None or number <= gone_after
        track = Track(7, BOX, 0.9, number + 1, number / FPS, number >= 2, there)
        said += collector.update(frame(flat(amount), at_s=number / FPS), [track])
    return [s.sighting for s in (*said, *collector.finish())]


def test_at_the_switch_the_same_tracklet_begins_anew_with_grey_crops_and_says_so() -> None:
    told = play([20] * 24 + [0] * 32)
    assert {s.track for s in told} == {7}
    assert [s.kind for s in told[1:-1]] == [Kind.UPDATE] * (len(told) - 2)  # not cut
    for sighting in told:
        as_said = [1, 0] if sighting.modality is COLOUR else [0, 1]
        assert sighting.embedding.tolist() == as_said
    words = [s.modality.word for s in told]
    assert words == sorted(words)  # colour, and then grey
    assert {*words} == {"colour", "grey"}
    first = next(n for n, s in enumerate(told) if s.modality is GREY)
    assert told[first].crops < told[first - 1].crops


def test_who_left_before_the_switch_was_seen_in_colour_to_the_last_word() -> None:
    told = play([20] * 24 + [0] * 32, gone_after=22)
    assert told[-1].kind is Kind.END
    assert {s.modality for s in told} == {COLOUR}
