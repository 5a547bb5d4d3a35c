"""H.264 or H.265 files that hardware decoders play: yuv420p, fixed key frames, no B-frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np

from skyreid.contract.errors import PlatformError
from skyreid.train.synth.options import Codec
from skyreid.train.synth.shading import Bytes

_ENCODERS = {"h264": "libx264", "h265": "libx265"}


class VideoWriter:
    """Writes RGB pictures uint8 [H, W, 3] to an .mp4 at a constant rate; the first has time 0.

    One encoder thread, so that the same pictures give the same file.
    """

    def __init__(
        self, path: Path, width_px: int, height_px: int, fps: int, crf: int, codec: Codec
    ) -> None:
        encoder = _ENCODERS[codec]
        try:
            self._file = av.open(str(path), "w")
            self._stream = self._file.add_stream(encoder, rate=fps)
        except (ValueError, av.codec.codec.UnknownCodecError) as error:
            raise PlatformError(
                f"PyAV {av.__version__} has no {encoder} ({error}): install a PyAV wheel from PyPI"
            ) from error
        stream = self._stream
        stream.width, stream.height, stream.pix_fmt = width_px, height_px, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, fps)
        group = 2 * fps  # a key frame every two seconds, wherever the picture changes
        if codec == "h265":
            stream.codec_context.codec_tag = "hvc1"  # what players on phones and browsers look for
            keys = f"keyint={group}:min-keyint={group}:scenecut=0:bframes=0:pools=1:frame-threads=1"
            options = {"x265-params": f"{keys}:log-level=error"}
        else:
            options = {"bf": "0", "g": str(group), "keyint_min": str(group), "sc_threshold": "0"}
        stream.options = {"crf": str(crf), "preset": "medium", **options}
        self._count = 0

    def write(self, picture: Bytes) -> None:
        """Append one picture."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts = self._count
        self._count += 1
        self._file.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Flush the encoder and finish the file."""
        self._file.mux(self._stream.encode(None))
        self._file.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
