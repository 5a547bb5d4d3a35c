"""A synthetic plaza with walking people, seen by drones and street cameras, with exact labels.

People, scene and renderer are our own and procedural: no art, no driver, no display. Rendering
needs the extra `[synth]` (numba, OpenCV, PyAV); importing this package does not.
"""

from skyreid.synth.options import ClipOptions, CropsOptions

__all__ = ["ClipOptions", "CropsOptions"]
