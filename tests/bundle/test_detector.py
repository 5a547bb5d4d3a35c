"""Pictures to people: how they are placed, and what a detector must prove before it looks."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from skyreid.bundle.archive import Bundle
from skyreid.bundle.detector import GREY, Detector, Placement, place, start_detector
from skyreid.bundle.manifest import DetectorSpec
from skyreid.contract.errors import BundleError
from skyreid.contract.input_spec import InputSpec

ANY = InputSpec(height=0, width=0, crop_margin=0.0)
FIXED = InputSpec(height=64, width=128, crop_margin=0.0)
SPEC = DetectorSpec(family="heatmap", stride=4, align=16, score_min=0.3)
YOLOX = DetectorSpec(family="yolox", stride=0, align=32, score_min=0.1)


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 100, (height, width, 3)).astype(np.uint8)


def test_a_picture_is_filled_up_with_grey_to_multiples() -> None:
    shown = picture(45, 65)
    placed, where = place(shown, ANY, 16)
    assert (placed.shape, where) == ((48, 80, 3), Placement())
    np.testing.assert_array_equal(placed[:45, :65], shown)
    assert (placed[45:] == GREY).all()
    assert (placed[:, 65:] == GREY).all()
    assert place(picture(48, 80), ANY, 16)[0].shape == (48, 80, 3)


@pytest.mark.parametrize(
    ("size", "inside", "scale"),
    [((128, 64), (64, 32), 0.5), ((32, 32), (64, 64), 2), ((40, 400), (12, 128), 0.32)],
)
def test_a_picture_is_letterboxed_into_an_input_with_a_size(
    size: tuple[int, int], inside: tuple[int, int], scale: float
) -> None:
    placed, found = place(picture(*size), FIXED, 32)
    assert (placed.shape, found) == ((64, 128, 3), Placement(scale, scale))
    assert (placed[: inside[0], : inside[1]] < GREY).all()
    assert (placed[inside[0] :] == GREY).all()
    assert (placed[:, inside[1] :] == GREY).all()


def test_boxes_come_back_in_pixels_of_the_picture_cut_off_and_best_first() -> None:
    """A network that says the same everywhere, in pixels of its input of 64 x 128."""
    boxes = np.array([[[8, 8, 16, 32], [9, 8, 17, 32], [20, 0, 70, 40], [90, 0, 99, 9]]], "f4")
    scores = np.array([[0.5, 0.4, 0.9, 0.8]], "f4")
    seen: list[np.ndarray] = []

    def run(pictures: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(pictures)
        return {"boxes": boxes, "scores": scores}

    found = Detector(run, YOLOX, FIXED).find(picture(128, 100))
    np.testing.assert_array_equal(found.boxes, [[40, 0, 100, 80], [16, 16, 32, 64]])
    np.testing.assert_allclose(found.scores, [0.9, 0.5])
    assert seen[0].shape == (1, 64, 128, 3)
    strict = Detector(run, YOLOX, FIXED, score_min=0.6).find(picture(128, 100))
    assert len(strict) == 1


def always(outputs: dict[str, np.ndarray]) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    return lambda shown: outputs


def test_large_pictures_are_looked_at_again_at_half_their_size() -> None:
    """A network whose only person is always 32 px high: too small in the whole picture."""
    seen: list[tuple[int, ...]] = []

    def run(pictures: np.ndarray) -> dict[str, np.ndarray]:
        height, width = pictures.shape[1:3]
        seen.append((height, width))
        heat = np.zeros((1, height // 4, width // 4), "f4")
        heat[0, 6, 5] = 0.5 if width > 100 else 0.7  # centre at column 22, row 26
        return {"heat": heat, "box": np.full((1, 4, height // 4, width // 4), 16, "f4")}

    spec = SPEC.model_copy(update={"half_from_px": 128})
    found = Detector(run, spec, ANY).find(picture(129, 145))
    assert seen == [(144, 160), (64, 80)]
    np.testing.assert_array_equal(found.boxes, [[12, 20, 76, 84], [6, 10, 38, 42]])
    np.testing.assert_allclose(found.scores, [0.7, 0.5])
    seen.clear()
    assert len(Detector(run, spec, ANY).find(picture(129, 127))) == 1  # too narrow
    assert len(Detector(run, SPEC, ANY).find(picture(129, 145))) == 1  # not asked for
    assert len(Detector(run, spec, ANY).find(picture(127, 145))) == 1  # too small for the network
    assert seen == [(144, 128), (144, 160), (128, 160)]


def test_a_half_still_large_is_halved_again_and_only_whom_it_shows_tall_counts() -> None:
    """Whoever is smaller in it was for the look before, which saw them twice as large."""
    tall = 16.0
    seen: list[tuple[int, ...]] = []

    def run(pictures: np.ndarray) -> dict[str, np.ndarray]:
        height, width = pictures.shape[1:3]
        seen.append((height, width))
        heat = np.zeros((1, height // 4, width // 4), "f4")
        heat[0, 6, 5] = 0.5
        return {"heat": heat, "box": np.full((1, 4, height // 4, width // 4), tall, "f4")}

    spec = SPEC.model_copy(update={"half_from_px": 256, "half_height_px": 32})
    found = Detector(run, spec, ANY).find(picture(256, 512))
    assert seen == [(256, 512), (128, 256), (64, 128)]
    heights = found.boxes[:, 3] - found.boxes[:, 1]
    np.testing.assert_array_equal(sorted(heights), [32, 64, 128])
    tall = 15.9
    found = Detector(run, spec, ANY).find(picture(256, 512))
    np.testing.assert_allclose(found.boxes[:, 3] - found.boxes[:, 1], [31.8], rtol=1e-5)


def test_outputs_of_another_shape_or_name_are_refused() -> None:
    cells = 8 * 16 + 4 * 8 + 2 * 4
    right = {"boxes": np.zeros((1, cells, 4), "f4"), "scores": np.zeros((1, cells), "f4")}
    Detector(lambda shown: right, YOLOX, FIXED).require_shapes("x")
    wrong = [
        {"boxes": right["boxes"]},
        {"rows": right["boxes"], "scores": right["scores"]},
        {**right, "boxes": np.zeros((1, cells + 1, 4), "f4")},
        {**right, "more": np.zeros((1, 1), "f4")},
    ]
    for outputs in wrong:
        with pytest.raises(BundleError, match="x is no detector of family yolox: for 64 x 128"):
            Detector(always(outputs), YOLOX, FIXED).require_shapes("x")
    with pytest.raises(BundleError, match="heat"):
        Detector(lambda shown: right, SPEC, ANY).require_shapes("x")


def test_an_unknown_family_and_an_embedder_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        BundleError, match="family 'fpn' is unknown, this version has: detr, heatmap"
    ):
        Detector(lambda shown: {}, SPEC.model_copy(update={"family": "fpn"}), ANY)
    with pytest.raises(BundleError, match="holds an embedder, not a detector"):
        start_detector(bundle)


def test_a_manifest_of_before_there_were_families_is_a_heatmap() -> None:
    old = DetectorSpec.model_validate({"stride": 4, "align": 16, "score_min": 0.36})
    assert old.family == "heatmap"


@pytest.mark.parametrize("sides", [(1, 1), (1, 2000), (2000, 1), (2, 3)])
def test_a_picture_of_one_row_or_column_has_no_half(sides: tuple[int, int]) -> None:
    def run(pictures: np.ndarray) -> dict[str, np.ndarray]:
        cells = (pictures.shape[1] // 4, pictures.shape[2] // 4)
        return {"heat": np.zeros((1, *cells), "f4"), "box": np.zeros((1, 4, *cells), "f4")}

    spec = SPEC.model_copy(update={"half_from_px": 1})
    assert len(Detector(run, spec, ANY).find(picture(*sides))) == 0


@pytest.mark.parametrize(
    "said", [{"stride": -4}, {"stride": 10**9}, {"align": 0}, {"align": -16}, {"align": 10**6}]
)
def test_a_manifest_cannot_say_cells_or_sides_that_cannot_be(said: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match="should be"):
        DetectorSpec.model_validate({**SPEC.model_dump(), **said})


def test_a_heatmap_without_a_stride_is_refused() -> None:
    spec = SPEC.model_copy(update={"stride": 0})
    with pytest.raises(BundleError, match="stride 0: a heatmap"):
        Detector(always({}), spec, FIXED).require_shapes("x")


@pytest.mark.parametrize("fit", ["corner", "centre", "stretch"])
def test_boxes_come_back_from_wherever_a_picture_was_placed(
    fit: Literal["corner", "centre", "stretch"],
) -> None:
    shown = np.zeros((40, 50, 3), np.uint8)
    shown[10:30, 20:25] = 255
    canvas, where = place(shown, FIXED, 32, fit)
    rows, columns = np.nonzero(canvas[..., 0] > 128)
    box = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    assert canvas.shape == (64, 128, 3)
    np.testing.assert_allclose(where.undo(np.array(box, "f4")), [[20, 10, 25, 30]], atol=1)
