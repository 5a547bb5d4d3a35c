"""Cameras for the tests of live sources."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cameras import RtspServer


@pytest.fixture
def needs_rtsp(needs_gst: None) -> None:
    """GStreamer's RTSP elements, or the test is skipped."""
    from skyreid.edge.video.platform import load_gst

    gst, _, _ = load_gst()
    if not gst.ElementFactory.find("rtspsrc"):
        pytest.skip("GStreamer's RTSP elements are not installed")


@pytest.fixture
def rtsp(needs_rtsp: None, environment: dict[str, str], free_port: int) -> Iterator[RtspServer]:
    server = RtspServer(free_port, environment)
    server.start()
    yield server
    server.kill()
