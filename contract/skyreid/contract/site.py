"""A site: one file that says where zero is, which cameras look at it and what may leave them.

The same file is given to every device and to the server, so that both ends agree on the site
frame, on each camera's view and on the policy for pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from skyreid.contract.camera import CameraPoses, read_poses
from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Section, check, read_table
from skyreid.contract.topics import check_identifier

Identifier = Annotated[str, AfterValidator(check_identifier)]
PicturePolicy = Literal["never", "on_request", "always"]


class Origin(Section):
    """The point of the earth that is (0, 0, 0) in the site frame."""

    latitude_deg: float = Field(ge=-90, le=90)
    longitude_deg: float = Field(ge=-180, le=180)
    ellipsoid_height_m: float
    """Height above the WGS 84 ellipsoid; not mean sea level, not take-off."""


class SiteCamera(Section):
    """One camera of the site."""

    id: Identifier
    view: Literal["aerial", "ground"]
    poses: Path | None = None
    """Calibration file (see ``camera.read_poses``); none = position on the ground unknown."""


class Site(Section):
    """A site file, as TOML."""

    id: Identifier
    pictures: PicturePolicy = "never"
    """Whether devices send a person's picture: never, when an operator asks, or always."""
    time_zone: str = "UTC"
    """IANA name; for display only, every message is in UTC."""
    notice: str = Field("", max_length=80)
    """What everybody who looks at the page must know: shown on it, and on every picture there."""
    origin: Origin | None = None
    """None = a site frame that is not tied to the earth (a rendered clip)."""
    camera: tuple[SiteCamera, ...] = ()

    def find_camera(self, camera: str) -> SiteCamera:
        """The camera called ``camera``.

        Raises:
            SettingsError: the site has none of that name.
        """
        for entry in self.camera:
            if entry.id == camera:
                return entry
        known = ", ".join(entry.id for entry in self.camera) or "none"
        raise SettingsError(f"site {self.id!r} has no camera {camera!r}; it has: {known}")


def read_site(path: Path) -> Site:
    """Read a site file; ``poses`` paths in it are relative to the file.

    Raises:
        SettingsError: the file is missing, not TOML, or has a wrong key.
    """
    site = check(Site, read_table(path, "site file"), f"site file {path}")
    names = [camera.id for camera in site.camera]
    if len(set(names)) < len(names):
        raise SettingsError(f"site file {path}: two cameras have the same id, ids are {names}")
    cameras = tuple(
        c.model_copy(update={"poses": path.parent / c.poses}) if c.poses else c for c in site.camera
    )
    return site.model_copy(update={"camera": cameras})


def poses_of(camera: SiteCamera) -> CameraPoses | None:
    """The camera's poses, or None where the site does not know them.

    Raises:
        InputError: the file cannot be used, or says another view than the site.
    """
    if camera.poses is None:
        return None
    poses = read_poses(camera.poses, camera.id)
    if poses.view.word != camera.view:
        raise SettingsError(
            f"camera {camera.id!r} is {camera.view} in the site file "
            f"and {poses.view.word} in {camera.poses}"
        )
    return poses
