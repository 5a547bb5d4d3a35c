"""The drone's own word of where it is: from telemetry to the pose of each frame."""
