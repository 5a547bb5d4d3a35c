"""The one reference pre-processing."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.input_spec import InputSpec, crop_box, fit

SPEC = InputSpec(height=16, width=8)


def naive(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The triangle filter written as loops over output and input pixels."""
    out = np.zeros((height, width, 3))
    sy, sx = image.shape[0] / height, image.shape[1] / width
    for y in range(height):
        for x in range(width):
            total = 0.0
            for v in range(image.shape[0]):
                wy = max(0.0, 1 - abs(v + 0.5 - (y + 0.5) * sy) / max(sy, 1))
                for u in range(image.shape[1]):
                    weight = wy * max(0.0, 1 - abs(u + 0.5 - (x + 0.5) * sx) / max(sx, 1))
                    out[y, x] += weight * image[v, u]
                    total += weight
            out[y, x] /= total
    return out


@pytest.mark.parametrize("size", [(40, 13), (7, 5), (16, 8), (33, 31)])
def test_fit_equals_the_filter_written_as_loops(size: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    out = fit(image, SPEC)
    assert out.shape == (16, 8, 3)
    assert np.abs(out.astype(float) - naive(image, 16, 8)).max() <= 0.51


def whole(image: np.ndarray, spec: InputSpec) -> np.ndarray:
    """The same filter as two whole matrices in float64: the reference of every size."""
    matrices = []
    for source, target in zip(image.shape[:2], (spec.height, spec.width), strict=True):
        scale = source / target
        at = (np.arange(target) + 0.5)[:, None] * scale
        weight = np.maximum(0, 1 - np.abs(np.arange(source) + 0.5 - at) / max(scale, 1))
        matrices.append(weight / weight.sum(1, keepdims=True))
    return np.einsum("Hh,hwc,Ww->HWc", matrices[0], image, matrices[1], optimize=True)


@pytest.mark.parametrize(
    "size", [(1, 1), (3, 700), (60, 30), (200, 90), (256, 128), (257, 129), (800, 400)]
)
def test_fit_is_within_a_step_of_the_filter_at_every_size(size: tuple[int, int]) -> None:
    """Exact sums decide all but the pixels within float32's error of a half."""
    spec = InputSpec(height=256, width=128)
    image = np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)
    out, exact = fit(image, spec), whole(image, spec)
    clear = np.abs(exact % 1 - 0.5) > 1e-3
    np.testing.assert_array_equal(out[clear], np.floor(exact + 0.5)[clear])
    assert np.abs(out - exact).max() <= 0.502


def test_fit_keeps_to_the_thread_that_calls_it() -> None:
    """In a process of its own: how many threads BLAS has is decided when it is loaded."""
    code = (
        "import numpy as np, time\n"
        "from skyreid.contract.input_spec import InputSpec, fit\n"
        "image = np.zeros((700, 350, 3), np.uint8)\n"
        "spec = InputSpec(height=256, width=128)\n"
        "whole, own = time.process_time(), time.thread_time()\n"
        "for _ in range(40): fit(image, spec)\n"
        "print((time.process_time() - whole) / (time.thread_time() - own))\n"
    )
    blas = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in blas}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(said.stdout) < 1.05  # 1.9 on two cores where each product is shared


def test_the_right_size_is_returned_unchanged() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 8, 3), np.uint8)
    np.testing.assert_array_equal(fit(image, SPEC), image)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
@settings(max_examples=60)
def test_one_colour_stays_that_colour(height: int, width: int, value: int) -> None:
    image = np.full((height, width, 3), value, np.uint8)
    assert (fit(image, SPEC) == value).all()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
    ],
)
def test_what_is_not_an_rgb_picture_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected uint8 \[h, w, 3\]"):
        fit(image, SPEC)


@given(
    st.floats(-50, 150), st.floats(-50, 150), st.floats(0.1, 100), st.floats(0.1, 100),
    st.floats(0, 0.5),
)  # fmt: skip
def test_a_crop_is_inside_the_frame_and_not_empty(
    x: float, y: float, w: float, h: float, margin: float
) -> None:
    x0, y0, x1, y1 = crop_box((x, y, x + w, y + h), 100, 80, margin)
    assert 0 <= x0 < x1 <= 100
    assert 0 <= y0 < y1 <= 80


def test_the_margin_moves_each_side_out() -> None:
    assert crop_box((20, 20, 40, 60), 100, 100, 0.1) == (18, 16, 42, 64)


def test_the_digest_changes_with_every_rule() -> None:
    others = [
        InputSpec(height=17, width=8),
        InputSpec(height=16, width=8, mean=(0, 0, 0)),
        InputSpec(height=16, width=8, std=(1, 1, 1)),
        InputSpec(height=16, width=8, crop_margin=0.1),
    ]
    assert len({spec.sha256() for spec in [SPEC, *others]}) == 5
    assert SPEC.sha256() == InputSpec(height=16, width=8).sha256()
