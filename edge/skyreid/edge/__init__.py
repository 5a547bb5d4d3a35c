"""The device: video in, people's embeddings out. GStreamer, detector, tracker, spool, MQTT."""
