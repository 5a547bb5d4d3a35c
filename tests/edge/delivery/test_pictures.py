import cv2
import numpy as np
import pytest

from skyreid.contract.picture import Picture, decode_picture, picture_properties
from skyreid.edge.delivery.pictures import encode_picture


def test_a_small_picture_keeps_its_size_and_its_colours() -> None:
    picture = np.zeros((96, 48, 3), np.uint8)
    picture[:48] = (200, 30, 30)
    picture[48:] = (20, 60, 180)
    data = encode_picture(picture)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    back = decoded[..., ::-1]
    assert back.shape == picture.shape
    assert np.abs(back.astype(int) - picture)[[10, 80]].mean() < 4


@pytest.mark.parametrize("shape", [(2000, 900, 3), (300, 300, 3), (1, 1, 3), (3, 4000, 3)])
def test_even_noise_fits_into_20_kilobytes(shape: tuple[int, int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    data = encode_picture(picture)
    sent = Picture("1-a", "cam1", 1, 1, 1, data)
    assert decode_picture(data, picture_properties(sent)) == sent  # 20 kB at most
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
