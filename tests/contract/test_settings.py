"""Settings: three sources, and every mistake named at once."""

from pathlib import Path

import pytest
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import Section, Settings, effective, load


class CameraSection(Section):
    id: str
    fps_max: float = Field(30.0, gt=0)
    """Frames per second at most."""


class Example(Settings):
    model_config = SettingsConfigDict(env_prefix="SKYREID_EXAMPLE_")
    camera: CameraSection
    names: tuple[str, ...] = ()


def read(tmp_path: Path, text: str, *options: str) -> Example:
    path = tmp_path / "example.toml"
    path.write_text(text)
    return load(Example, path, options, program="skyreid-example run")


def test_the_file_is_read_and_defaults_fill_in(tmp_path: Path) -> None:
    got = read(tmp_path, 'names = ["a", "b"]\n[camera]\nid = "cam1"\n')
    assert isinstance(got, Example)
    assert got.camera == CameraSection(id="cam1", fps_max=30.0)
    assert got.names == ("a", "b")


def test_the_environment_overrides_the_file_and_an_option_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[camera]\nid = "cam1"\nfps_max = 1\n'
    monkeypatch.setenv("SKYREID_EXAMPLE_CAMERA__FPS_MAX", "2")
    assert read(tmp_path, text).camera.fps_max == 2
    assert read(tmp_path, text, "--camera.fps_max", "3").camera.fps_max == 3
    assert read(tmp_path, text, "--camera.fps_max=4").camera.id == "cam1"


def test_every_wrong_key_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, '[camera]\nfps_max = "fast"\nfps_mox = 3\n')
    line = str(caught.value)
    assert "camera.id: missing" in line
    assert "camera.fps_max: Input should be a valid number" in line
    assert "got 'fast'" in line
    assert "camera.fps_mox: unknown key, did you mean camera.fps_max?" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        ("[camera", (), "is not TOML"),
        ('[camera]\nid="a"', ("--camera.colour", "3"), "--camera.colour: unknown key"),
        ('[camera]\nid="a"', ("--camera.fps_max", "-3"), "greater than 0"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, text: str, options: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        read(tmp_path, text, *options)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nowhere\.toml' does not exist"):
        load(Example, tmp_path / "nowhere.toml", (), program="p")


def test_the_effective_settings_are_canonical_json(tmp_path: Path) -> None:
    assert (
        effective(read(tmp_path, '[camera]\nid = "cam1"\n'))
        == '{"camera":{"fps_max":30.0,"id":"cam1"},"names":[]}'
    )
