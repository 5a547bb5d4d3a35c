"""What a user may choose about a synthetic data set, checked before anything is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from skyreid.contract.errors import SettingsError

CAMERAS = tuple(range(1, 14))  # 1..5 aerial, 6..13 ground, as in CARGO
LAST_AERIAL_CAMERA = 5

FlightPath = Literal["hover", "orbit", "transit"]
"""Of every drone: it stays, circles what it looks at, or crosses the place to and fro."""
Hour = Literal["day", "dusk", "night"]
Codec = Literal["h264", "h265"]
Layout = Literal["together", "apart"]
"""Street cameras look at the middle, as the drones do, or at the houses behind them."""
Place = Literal["plaza", "street", "yard"]
SeveralPlaces = Literal["plaza", "street", "yard", "mixed"]
"""A place, or one for each family of look-alikes in turn."""
SeveralHours = Literal["day", "dusk", "night", "mixed"]
"""One hour for all cameras, or night for those of `look.NIGHT_CAMERAS` and day for the rest."""
Altitude = Literal["overhead", "low", "standard", "high", "highest"]
"""Of all drones; `rig.AERIAL` is the table."""
Wardrobe = Literal["vivid", "everyday"]
"""What people wear, see `closets`."""
PATHS: tuple[FlightPath, ...] = get_args(FlightPath)
HOURS: tuple[Hour, ...] = get_args(Hour)
CODECS: tuple[Codec, ...] = get_args(Codec)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
PLACES: tuple[Place, ...] = get_args(Place)
SEVERAL_PLACES: tuple[SeveralPlaces, ...] = get_args(SeveralPlaces)
SEVERAL_HOURS: tuple[SeveralHours, ...] = get_args(SeveralHours)
ALTITUDES: tuple[Altitude, ...] = get_args(Altitude)
WARDROBES: tuple[Wardrobe, ...] = get_args(Wardrobe)


@dataclass(frozen=True)
class ClipOptions:
    """A multi-camera clip.

    `family` is how many people share most of their clothes; at 1 nobody has a look-alike.
    `camera_jitter` is how far the cameras stray from the rig of this package: 0 not at all, 1 as
    far as another site would put them. `oversample` is rendered pixels per delivered pixel along a
    side. `crf` is the encoder's quality: lower is better and larger. `telemetry` is a level of
    `telemetry.LEVELS`, whose errors the drones' KLV has; None writes no KLV. `path` is how the
    drones fly, `layout` where the street cameras look, `rim` the share of the people who keep to
    the rim of the place, where drones that look at the middle do not see them, `visit` which visit
    of the same people to the same place it is: they go other ways. `hour` is the light, `codec`
    that of the videos, `place` where it is, `altitude` how high and steep the drones are,
    `wardrobe` what people wear. `preview` asks for a contact sheet.
    """

    out: Path
    seed: int = 0
    seconds: float = 20.0
    fps: int = 8
    people: int = 16
    family: int = 4
    cameras: tuple[int, ...] = (1, 3, 6, 8, 12)
    width_px: int = 1280
    jobs: int = 1
    camera_jitter: float = 0.0
    oversample: float = 1.0
    noise: float = 1.0
    crf: int = 23
    telemetry: str | None = None
    path: FlightPath = "hover"
    hour: Hour = "day"
    layout: Layout = "together"
    rim: float = 0.0
    visit: int = 0
    codec: Codec = "h264"
    place: Place = "plaza"
    altitude: Altitude = "standard"
    wardrobe: Wardrobe = "vivid"
    preview: bool = False

    def __post_init__(self) -> None:
        _between("--seconds", self.seconds, 0.1, 3600)
        _between("--fps", self.fps, 1, 60)
        _between("--people", self.people, 1, 200)
        _between("--family", self.family, 1, 200)
        _between("--width", self.width_px, 64, 3840)
        _between("--jobs", self.jobs, 1, 256)
        _between("--camera-jitter", self.camera_jitter, 0, 2)
        _between("--oversample", self.oversample, 1, 3)
        _between("--noise", self.noise, 0, 4)
        _between("--crf", self.crf, 0, 51)
        _between("--rim", self.rim, 0, 1)
        _between("--visit", self.visit, 0, 9999)
        _known_cameras(self.cameras)
        if self.width_px % 32:
            raise SettingsError(
                f"--width {self.width_px}: must be a multiple of 32, so that 16:9 has even sides"
            )
        if self.frame_count < 1:
            raise SettingsError(
                f"--seconds {self.seconds:g} at --fps {self.fps}: less than one frame, ask for more"
            )

    @property
    def height_px(self) -> int:
        """Height of a 16:9 picture."""
        return self.width_px * 9 // 16

    @property
    def frame_count(self) -> int:
        """Frames of every camera."""
        return round(self.seconds * self.fps)


@dataclass(frozen=True)
class CropsOptions:
    """A CARGO-shaped set of crops.

    `test` is the fraction of the look-alike families that goes to query and gallery. `jitter`
    scales the change of light and white balance between two pictures of one camera; at 0 every
    camera keeps one look, which a network learns instead of the people. `place` is where they are,
    `hour` the light, `altitude` how high and steep the drones are, `wardrobe` what they wear.
    `clutter` is the part of the pictures in which what stands behind is taken from a picture of
    `pasted.clutter` instead of the place, `cut` of those in which the frame cuts the person.
    `preview` asks for a contact sheet.
    """

    out: Path
    people: int = 40
    cameras: tuple[int, ...] = CAMERAS
    frames: int = 3
    seed: int = 0
    test: float = 0.5
    jitter: float = 1.0
    place: SeveralPlaces = "plaza"
    hour: SeveralHours = "mixed"
    altitude: Altitude = "standard"
    wardrobe: Wardrobe = "vivid"
    clutter: float = 0.0
    cut: float = 0.0
    jobs: int = 1
    preview: bool = False

    def __post_init__(self) -> None:
        _between("--clutter", self.clutter, 0, 1)
        _between("--cut", self.cut, 0, 1)
        _between("--people", self.people, 1, 9999)  # four digits in a CARGO name
        _between("--frames", self.frames, 1, 1000)
        _between("--test", self.test, 0, 1)
        _between("--jitter", self.jitter, 0, 3)
        _between("--jobs", self.jobs, 1, 256)
        _known_cameras(self.cameras)


@dataclass(frozen=True)
class StockOptions:
    """Cut-outs to paste into the training pictures of a detector.

    `empty` are videos in which nobody can be seen; `frames_each` frames of the first two thirds of
    each become grounds and negatives.
    """

    out: Path
    people: int = 1600
    things: int = 300
    seed: int = 0
    empty: tuple[Path, ...] = ()
    frames_each: int = 80

    def __post_init__(self) -> None:
        _between("--people", self.people, 10, 99_000)  # five digits in a name; a tenth is held out
        _between("--things", self.things, 10, 99_000 - self.people)
        _between("--frames-each", self.frames_each, 1, 10_000)
        names = [video.name for video in self.empty]
        if len(set(names)) != len(names):
            raise SettingsError(f"--empty {' '.join(names)}: two videos have the same name")


def _between(option: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"{option} {value:g}: must lie between {low:g} and {high:g}")


def _known_cameras(cameras: tuple[int, ...]) -> None:
    if not cameras:
        raise SettingsError("--cameras is empty: name at least one of 1 to 13")
    for camera in cameras:
        if camera not in CAMERAS:
            raise SettingsError(
                f"--cameras {camera}: there is no such camera; 1 to 5 are aerial, 6 to 13 ground"
            )
    if len(set(cameras)) != len(cameras):
        raise SettingsError(f"--cameras {','.join(map(str, cameras))}: a camera is named twice")
