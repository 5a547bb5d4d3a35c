from __future__ import annotations

import numpy as np
import pytest

from skyreid.synth.raster import (
    Light,
    box_on_screen,
    cast_shadow,
    covered_pixels,
    draw,
    empty_buffers,
)

SQUARE = np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def square(x0: float, y0: float, size: float, key: float) -> np.ndarray:
    corners = [(x0, y0), (x0 + size, y0), (x0 + size, y0 + size), (x0, y0 + size)]
    return np.array([[x, y, key] for x, y in corners])


def test_a_square_covers_exactly_the_pixel_centres_inside_it():
    buffers = empty_buffers(16, 12)
    draw(buffers, square(3.0, 2.0, 5.0, 1.0), SQUARE)
    expected = np.zeros((12, 16), bool)
    expected[2:7, 3:8] = True
    assert np.array_equal(buffers.face >= 0, expected)


def test_the_nearer_face_wins_in_either_order():
    near, far = square(0, 0, 6, key=0.5), square(0, 0, 6, key=0.1)
    faces = np.concatenate([SQUARE, SQUARE + np.int32(4)])
    for first, second, winner in ((near, far, 0), (far, near, 2)):
        buffers = empty_buffers(6, 6)
        draw(buffers, np.concatenate([first, second]), faces)
        assert (buffers.face // 2 * 2 == winner).all()


def test_what_is_behind_the_camera_is_not_drawn_and_has_no_box():
    screen = square(0, 0, 6, key=-1.0)
    buffers = empty_buffers(6, 6)
    draw(buffers, screen, SQUARE)
    assert (buffers.face == -1).all()
    assert box_on_screen(screen) is None


def test_covered_pixels_counts_beyond_the_edge_of_the_picture():
    assert covered_pixels(square(-2.0, -2.0, 6.0, 1.0), SQUARE) == 36


@pytest.mark.parametrize("azimuth", [0.0, 123.0])
def test_a_shadow_map_holds_the_height_towards_the_sun(azimuth: float):
    light = Light(azimuth, 60.0, (1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    plate = np.array([[-1, -1, 2], [1, -1, 2], [1, 1, 2], [-1, 1, 2]], dtype=float)
    shadow = cast_shadow(light, plate, SQUARE, (0.0, 0.0), radius_m=5.0, size=200)
    over = light.axes @ np.array([0.0, 0.0, 2.0])
    row = int((over[1] - shadow.low_v) * shadow.texels_per_m)
    column = int((over[0] - shadow.low_u) * shadow.texels_per_m)
    assert shadow.depth[row, column] == pytest.approx(over[2] + 100, abs=0.1)
    assert shadow.depth[2, 2] == 0
