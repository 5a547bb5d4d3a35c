"""A person's picture, encoded small enough to send: JPEG of at most 20 kB."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import MessageError
from skyreid.contract.topics import IDENTIFIER

MAX_BYTES = 20_000
_QUALITIES = (90, 80, 70, 55, 40, 25)
_SIDE_MAX_PX = 512


def encode_picture(picture: NDArray[np.uint8], max_bytes: int = MAX_BYTES) -> bytes:
    """RGB uint8 [h, w, 3] -> JPEG of at most ``max_bytes``, as good as fits.

    The quality is lowered first, then the picture is made smaller.
    """
    import cv2

    side = max(picture.shape[:2])
    scale = min(1.0, _SIDE_MAX_PX / side)
    while True:
        if scale < 1.0:
            size = [max(1, round(length * scale)) for length in picture.shape[1::-1]]
            small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        else:
            small = picture
        bgr = np.ascontiguousarray(small[..., ::-1])
        for quality in _QUALITIES:
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if done and len(data) <= max_bytes:
                return bytes(data)
        scale *= 0.7


def read_request(payload: bytes) -> tuple[str, str, int]:
    """Which tracklet a request on ``cmd/{device}/picture`` names: boot, camera, track.

    The request is JSON: ``{"boot": "3-9f2c01ab", "camera": "cam1", "track": 7}``.

    Raises:
        MessageError: ``reason`` is ``picture-request``.
    """
    try:
        request = json.loads(payload)
        boot, camera, track = request["boot"], request["camera"], request["track"]
        if not (IDENTIFIER.fullmatch(boot) and IDENTIFIER.fullmatch(camera)):
            raise ValueError("boot or camera is no name")
        if type(track) is not int or not 0 < track < 2**63:
            raise ValueError("track is no number of a tracklet")
        return boot, camera, track
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MessageError("picture-request", f"{payload[:80]!r}: {error!r}") from error
