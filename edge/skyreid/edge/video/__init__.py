"""From a source to frames with a capture time: GStreamer, clocks, the newest frame."""
