from pathlib import Path

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.edge.config import (
    EdgeSettings,
    read_settings,
)

LEAST = """
site = "site.toml"
[device]
id = "dev1"
[camera]
id = "cam1"
source = "clip.mp4"
[detector]
model = "detector"
[embedder]
bundles = ["a", "/b"]
[spool]
path = "spool.db"
"""


def read(tmp_path: Path, extra: str = "", *options: str) -> EdgeSettings:
    (tmp_path / "edge.toml").write_text(LEAST + extra)
    return read_settings(tmp_path / "edge.toml", options, verb="run")


def test_paths_start_from_the_settings_file(tmp_path: Path) -> None:
    settings = read(tmp_path)
    assert settings.site == tmp_path / "site.toml"
    assert settings.detector.model == tmp_path / "detector"
    assert settings.embedder.bundles == (tmp_path / "a", Path("/b"))
    assert settings.spool.path == tmp_path / "spool.db"
    assert settings.runner.engines == tmp_path / "engines"


def test_an_option_beats_the_environment_and_that_beats_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = "[mqtt]\nkeepalive_s = 11\n"
    assert read(tmp_path, file).mqtt.keepalive_s == 11
    monkeypatch.setenv("SKYREID_EDGE_MQTT__KEEPALIVE_S", "12")
    assert read(tmp_path, file).mqtt.keepalive_s == 12
    assert read(tmp_path, file, "--mqtt.keepalive_s", "13").mqtt.keepalive_s == 13


@pytest.mark.parametrize("sides", ["[1080, 1920]", "[240, 1920]", "[1088, 9000]"])
def test_the_largest_picture_of_an_engine_is_aligned_and_within_reason(
    tmp_path: Path, sides: str
) -> None:
    with pytest.raises(SettingsError, match=r"runner\.frame_max.*multiples of 16 from 256"):
        read(tmp_path, f"[runner]\nframe_max = {sides}\n")


def test_every_wrong_key_is_named_at_once(tmp_path: Path) -> None:
    extra = "[health]\nperoid_s = 3\n[mqtt]\nurl = 'http://x'\n[tracker]\nhits_min = 0\n"
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, extra)
    line = str(caught.value)
    assert "health.peroid_s: unknown key, did you mean health.period_s?" in line
    assert "mqtt.url" in line
    assert "tracker.hits_min" in line


@pytest.mark.parametrize(
    "wrong", ["--detector.tiles=[0,1]", "--camera.pace=slow", "--device.id=a/b", "--spool.max_mb=0"]
)
def test_a_wrong_value_is_refused_with_its_path(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(SettingsError, match=wrong.split("=")[0].removeprefix("--")):
        read(tmp_path, "", wrong)


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_no_span_of_time_is_beyond_what_a_clock_counts(tmp_path: Path, value: str) -> None:
    sections = {name: field.annotation for name, field in EdgeSettings.model_fields.items()}
    spans = [
        f"{section}.{name}"
        for section, kind in sections.items()
        for name in getattr(kind, "model_fields", {})
        if name.endswith(("_s", "_ms", "_h", "_ns")) and not name.endswith("_per_s")
    ]
    assert len(spans) > 10
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "", *[f"--{span}={value}" for span in spans])
    for span in spans:
        assert f"{span}: " in str(caught.value)


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    from skyreid.contract.settings import effective

    settings = read(tmp_path, "[mqtt]\nusername = 'u'\npassword = 'hidden-word'\n")
    assert "hidden-word" not in effective(settings)
    camera = "rtsp://admin:hidden-word@10.0.0.9:554/s?x=1"
    shown = effective(read(tmp_path, "", "--camera.source", camera))
    assert "hidden-word" not in shown
    assert "rtsp://10.0.0.9:554/..." in shown


def test_more_crops_than_are_kept_cannot_be_waited_for(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="crops: crops_min 2 is more than crops_max 1"):
        read(tmp_path, "[crops]\ncrops_max = 1\n")


def test_the_example_has_every_key_and_its_default(repository: Path) -> None:
    """Keys with a default stand in it as they are without it; the others are shown."""
    path = repository / "edge" / "edge.example.toml"
    example = read_settings(path, (), verb="check")
    text = path.read_text()
    for name, field in EdgeSettings.model_fields.items():
        kind = field.annotation
        fields = getattr(kind, "model_fields", None)
        if fields is None:
            assert f"{name} = " in text
            continue
        assert f"[{name}]" in text
        for key, inner in fields.items():
            assert f"{key} = " in text, f"{name}.{key} is not in {path.name}"
            if not inner.is_required() and name not in ("camera",):
                default = inner.default
                wanted = path.parent / default if isinstance(default, Path) else default
                assert getattr(getattr(example, name), key) == wanted, f"{name}.{key}"
