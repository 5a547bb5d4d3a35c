import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.sighting import Clock
from skyreid.edge.video.frame import Frame, Planes


def make_planes(width: int, height: int, layout: str, padding: int = 6) -> Planes:
    """Random planes whose rows are longer than the picture."""
    rng = np.random.default_rng(width * 1000 + height)
    half = (height + 1) // 2, (width + 1) // 2
    luma = rng.integers(16, 236, (height, width + padding), np.uint8)[:, :width]
    u, v = (rng.integers(16, 241, half, np.uint8) for _ in range(2))
    if layout == "nv12":
        return Planes("nv12", luma, (np.stack([u, v], -1),))
    return Planes("i420", luma, (u, v))


def make_frame(width: int, height: int, layout: str) -> Frame:
    planes = make_planes(width, height, layout)
    return Frame(1, 1, Clock.FILE, 0, width, height, planes=planes)


@settings(max_examples=60)
@given(st.integers(2, 41), st.integers(2, 41), st.sampled_from(["nv12", "i420"]), st.data())
def test_a_crop_equals_the_same_region_of_the_whole_frame(
    width: int, height: int, layout: str, data: st.DataObject
) -> None:
    frame = make_frame(width, height, layout)
    x0 = data.draw(st.integers(0, width - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    y0 = data.draw(st.integers(0, height - 1))
    y1 = data.draw(st.integers(y0 + 1, height))
    crop = frame.crop(x0, y0, x1, y1)
    assert crop.shape == (y1 - y0, x1 - x0, 3)
    np.testing.assert_array_equal(crop, frame.rgb()[y0:y1, x0:x1])
    np.testing.assert_array_equal(crop, frame.crop(x0, y0, x1, y1))  # cut from the whole one now


def test_both_layouts_of_the_same_picture_have_the_same_colours() -> None:
    np.testing.assert_array_equal(
        make_frame(34, 20, "nv12").rgb(), make_frame(34, 20, "i420").rgb()
    )


def test_the_whole_frame_equals_a_conversion_of_the_packed_memory() -> None:
    planes = make_planes(32, 16, "i420", padding=0)
    packed = np.concatenate([planes.luma.ravel(), *(c.ravel() for c in planes.chroma)])
    expected = cv2.cvtColor(packed.reshape(24, 32), cv2.COLOR_YUV2RGB_I420)
    frame = Frame(1, 1, Clock.FILE, 0, 32, 16, planes=planes)
    np.testing.assert_array_equal(frame.rgb(), expected)


@pytest.mark.parametrize(
    ("yuv", "rgb"),
    [((81, 90, 240), (255, 0, 0)), ((145, 54, 34), (0, 255, 0)), ((41, 240, 110), (0, 0, 255))],
    ids=["red", "green", "blue"],
)
def test_colours_are_those_of_bt601_with_limited_range(
    yuv: tuple[int, int, int], rgb: tuple[int, int, int]
) -> None:
    luma = np.full((4, 4), yuv[0], np.uint8)
    chroma = tuple(np.full((2, 2), value, np.uint8) for value in yuv[1:])
    frame = Frame(1, 1, Clock.FILE, 0, 4, 4, planes=Planes("i420", luma, chroma))
    assert np.abs(frame.rgb().astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("region", [(0, 0, 0, 4), (-1, 0, 4, 4), (0, 0, 5, 4), (3, 3, 2, 4)])
def test_a_region_outside_the_frame_is_refused(region: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="is not inside a 4x4 frame"):
        Frame.of_rgb(np.zeros((4, 4, 3), np.uint8)).crop(*region)


def test_the_picture_that_all_crops_are_cut_from_cannot_be_written_to() -> None:
    picture = np.zeros((4, 6, 3), np.uint8)
    frame = Frame.of_rgb(picture, number=3, captured_at_ns=7)
    for made in (frame, make_frame(6, 4, "i420")):
        assert made.rgb() is made.rgb()  # converted once
        with pytest.raises(ValueError, match="read-only"):
            made.rgb()[:] = 255
        made.crop(0, 0, 6, 4)[:] = 255
    assert (frame.width, frame.height, frame.number, frame.captured_at_ns) == (6, 4, 3, 7)
    assert picture.max() == 0
