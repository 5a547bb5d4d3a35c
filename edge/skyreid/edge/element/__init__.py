"""`reidembed` in any application: importing this registers the element with GStreamer.

Import it before GStreamer is loaded otherwise (``platform.load_gst`` says why), or call it by
``skyreid-edge gst-launch``. docs/gstreamer.md is the page, examples/reidembed.py an application.
"""

from skyreid.edge.element.messages import Person, people_of, sighting_of
from skyreid.edge.element.regions import Region, put_regions
from skyreid.edge.element.reidembed import register

__all__ = ["Person", "Region", "people_of", "put_regions", "register", "sighting_of"]

register()
