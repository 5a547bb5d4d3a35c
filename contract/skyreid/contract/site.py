"""A site: one file that says where zero is, which cameras look at it and what may leave them.

The same file is given to every device and to the server, so that both ends agree on the site
frame, on each camera's view and on the policy for pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from skyreid.contract.camera import CameraPoses, read_poses
from skyreid.contract.errors import SettingsError
from skyreid.contract.topics import check_identifier

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Identifier = Annotated[str, AfterValidator(check_identifier)]
PicturePolicy = Literal["never", "on_request", "always"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Origin(_Part):
    """The point of the earth that is (0, 0, 0) in the site frame."""

    latitude_deg: float = Field(ge=-90, le=90)
    longitude_deg: float = Field(ge=-180, le=180)
    ellipsoid_height_m: float
    """Height above the WGS 84 ellipsoid; not mean sea level, not take-off."""


class SiteCamera(_Part):
    """One camera of the site."""

    id: Identifier
    view: Literal["aerial", "ground"]
    poses: Path | None = None
    """Calibration file (see ``camera.read_poses``); none = position on the ground unknown."""


class Site(_Part):
    """A site file, as TOML."""

    id: Identifier
    pictures: PicturePolicy = "never"
    """Whether devices send a person's picture: never, when an operator asks, or always."""
    time_zone: str = "UTC"
    """IANA name; for display only, every message is in UTC."""
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
    try:
        table = tomllib.loads(path.read_text())
        site = Site.model_validate(table)
    except OSError as error:
        raise SettingsError(f"site file {str(path)!r}: {error.strerror}") from error
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise SettingsError(f"site file {path}: {wrong}") from error
    except ValueError as error:
        raise SettingsError(f"site file {path} is not TOML: {error}") from error
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
