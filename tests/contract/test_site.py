"""The site file: one truth for devices and server."""

import re
import sys
from pathlib import Path

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import check
from skyreid.contract.site import Origin, Site, SiteCamera, poses_of, read_site

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = """
id = "plaza"
pictures = "always"
[origin]
latitude_deg = 48.1
longitude_deg = 11.5
ellipsoid_height_m = 560.0
[[camera]]
id = "cam1"
view = "aerial"
poses = "calib.json"
[[camera]]
id = "cam6"
view = "ground"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(text)
    return path


def test_a_site_is_read_and_paths_are_relative_to_it(tmp_path: Path) -> None:
    site = read_site(write(tmp_path, TEXT))
    assert (site.id, site.pictures) == ("plaza", "always")
    assert site.find_camera("cam1").poses == tmp_path / "calib.json"
    assert site.find_camera("cam6").poses is None
    assert poses_of(site.find_camera("cam6")) is None


def test_no_pictures_leave_a_device_unless_the_site_says_so(tmp_path: Path) -> None:
    assert read_site(write(tmp_path, 'id = "s"')).pictures == "never"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('id = "a/b"', "not a valid name"),
        ('id = "s"\ncolour = 1', "colour"),
        ('id = "s"\npictures = "sometimes"', "pictures"),
        ("id =", "is not TOML"),
        (
            'id = "s"\n[[camera]]\nid="c"\nview="ground"\n[[camera]]\nid="c"\nview="ground"',
            "two cameras have the same id",
        ),
    ],
)
def test_a_wrong_site_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read_site(write(tmp_path, text))


def test_an_unknown_camera_is_named_beside_the_known(tmp_path: Path) -> None:
    site = read_site(write(tmp_path, TEXT))
    with pytest.raises(SettingsError, match=r"no camera 'cam9'; it has: cam1, cam6"):
        site.find_camera("cam9")


def test_a_view_that_differs_from_the_calibration_is_refused(tmp_path: Path, shared: Path) -> None:
    text = TEXT.replace('"aerial"', '"ground"').replace(
        '"calib.json"', f'"{shared}/data/plaza/calib.json"'
    )
    site = read_site(write(tmp_path, text))
    with pytest.raises(SettingsError, match="'cam1' is ground in the site file and aerial in"):
        poses_of(site.find_camera("cam1"))


def test_the_example_has_every_key_and_its_default(repository: Path) -> None:
    path = repository / "edge" / "site.example.toml"
    text = path.read_text()
    for section in (Site, Origin, SiteCamera):
        for key in section.model_fields:
            assert re.search(rf"^(# )?\[*{key}\]*( =|  )", text, re.MULTILINE), key
    given = read_site(path)
    assert (given.pictures, given.time_zone, given.origin) == ("never", "UTC", None)
    assert len(given.camera) == 2
    whole = check(Site, tomllib.loads(re.sub(r"^# (?=[\[a-z_\]]+ [ =])", "", text, flags=re.M)), "")
    assert whole.origin is not None
    assert whole.camera[1].poses == Path("calib.json")
