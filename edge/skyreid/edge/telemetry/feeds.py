"""The sources of telemetry there are: from the settings to the poses of a camera."""

from __future__ import annotations

from pathlib import Path

from skyreid.contract.errors import SettingsError
from skyreid.contract.site import Origin, Site, SiteCamera
from skyreid.edge.telemetry.csv_feed import CsvFeed
from skyreid.edge.telemetry.klv_feed import KlvFeed
from skyreid.edge.telemetry.lens import Lens
from skyreid.edge.telemetry.mavlink_feed import MavlinkFeed
from skyreid.edge.telemetry.mavlink_link import SerialLink, UdpLink
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.telemetry.poses import Feed, TelemetryPoses


def check(options: TelemetryOptions, site: Site, camera: SiteCamera) -> None:
    """See whether a camera can be placed so; what is a file is opened, a port or a line is not.

    Raises:
        InputError: a table cannot be used.
        SettingsError: the site is not tied to the earth, the camera has poses too, or heights are
            above a take-off that nobody has placed.
    """
    if options.source and site.origin is None:
        raise SettingsError(
            f"telemetry.source {options.source!r} says places on the earth: the site file needs an "
            "[origin]"
        )
    if options.source and camera.poses is not None:
        raise SettingsError(
            f"camera {camera.id!r} has poses in the site file, and there is telemetry.source "
            f"{options.source!r}: give one"
        )
    lens = None if options.lens is None else Lens(options.lens)
    if options.source.endswith(".csv") and site.origin is not None:
        CsvFeed(Path(options.source), site.origin, options, lens)


def poses_from(
    options: TelemetryOptions, origin: Origin | None, *, plane_m: float
) -> TelemetryPoses | None:
    """Poses by the drone's own word; None where it is not asked. See `TelemetryPoses`.

    Raises:
        InputError: a table cannot be used.
        SettingsError: a port or a line cannot be had, or heights are above a take-off that nobody
            has placed.
        PlatformError: pymavlink is missing.
    """
    if origin is None or not options.source:
        return None
    lens = None if options.lens is None else Lens(options.lens)
    feed: Feed
    if options.source == "klv":
        feed = KlvFeed(origin, fov_deg=options.fov_deg)
    elif options.port is not None:
        feed = MavlinkFeed(UdpLink(*options.port), origin, options, lens)
    elif options.line is not None:
        feed = MavlinkFeed(SerialLink(*options.line), origin, options, lens)
    else:
        feed = CsvFeed(Path(options.source), origin, options, lens)
    return TelemetryPoses(feed, options, plane_m=plane_m)


def described(options: TelemetryOptions, lowered_m: float | None = None) -> str:
    """In words, for whoever starts a device.

    Args:
        options: of the telemetry.
        lowered_m: by which a terrain was lowered to have the origin on it; None = there is none.
    """
    if not options.source:
        return "position on the ground unknown"
    ground = (
        "on flat ground"
        if lowered_m is None
        else f"on the ground of {options.terrain}, {lowered_m:+.1f} m above the origin's height"
    )
    return f"places by telemetry {options.source}, quality {options.quality}, {ground}"
