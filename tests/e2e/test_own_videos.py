"""``scripts/demo --video``: videos without truth, with and without a common clock."""

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import demo as script
import pytest
from chain import Chain
from videos import COMMON_ZERO_NS, PLACED_ERROR_MS, container_times, read_videos

from skyreid.contract.errors import InputError
from skyreid.contract.settings import read_table
from skyreid.contract.site import Site, read_site


def run_demo(repository: Path, *options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(repository / "scripts/demo.py"), "--headless"]
    return subprocess.run(
        [*command, *map(str, options)], capture_output=True, text=True, check=False, timeout=280
    )


def report(repository: Path, out: Path, *options: object) -> tuple[dict[str, Any], str]:
    done = run_demo(repository, "--json", out / "out.json", "--out", out / "run", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((out / "out.json").read_text())
    return found, done.stdout


@pytest.fixture
def short(repository: Path, tmp_path: Path) -> Callable[[str], Path]:
    """The first eight seconds of a camera of the rendered clip, as they are."""

    def cut(camera: str) -> Path:
        path = tmp_path / f"{camera}.mp4"
        with av.open(str(repository / f"examples/clip/{camera}.mp4")) as whole:
            with av.open(str(path), "w") as part:
                stream = part.add_stream_from_template(whole.streams.video[0])
                for packet in whole.demux(video=0):
                    if packet.dts is None or packet.pts * packet.time_base >= 8:
                        continue
                    packet.stream = stream
                    part.mux(packet)
        return path

    return cut


def test_two_videos_without_a_common_clock_have_no_sure_link(
    repository: Path, tmp_path: Path, short: Callable[[str], Path]
) -> None:
    """The rendered clip's own street cameras see the same people; nobody can know that here."""
    videos = [f"--video=ground={short(camera)}" for camera in ("cam6", "cam12")]
    found, said = report(repository, tmp_path, *videos)
    assert all(count > 0 for count in found["tracklets"].values()), found["tracklets"]
    assert found["identities"] > 0
    for link in found["links"]:
        assert link["state"] == "tentative"
        assert {e["kind"] for e in link["evidence"]} == {"appearance", "clock", "prior"}
    assert "time and place between cam6 and cam12: nobody said when cam6 and cam12 began" in said
    assert "no truth for these videos" in said

    run = tmp_path / "run"
    assert {str(path) for path in run.glob("*.toml")} == set(found["settings"])
    assert not [p for p in run.rglob("*") if p.suffix in (".db", ".bin", ".log")], "people left"
    assert len(found["commands"]) == 4  # broker, server, two devices
    for verb, settings in (("edge", "cam6.toml"), ("server", "server.toml")):
        command = [sys.executable, "-m", f"skyreid.{verb}", "check", str(run / settings)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr


def test_with_a_common_clock_and_poses_some_links_are_sure(
    repository: Path, tmp_path: Path, short: Callable[[str], Path]
) -> None:
    clip = repository / "examples/clip"
    cameras = "".join(
        f'[[camera]]\nid = "{name}"\nview = "ground"\nposes = "{clip}/calib.json"\n'
        for name in ("cam6", "cam12")
    )
    (tmp_path / "site.toml").write_text(f'id = "mine"\npictures = "never"\n{cameras}')
    found, said = report(
        repository, tmp_path, "--site", tmp_path / "site.toml",
        "--video", f"cam6={short('cam6')}@2026-11-29T10:00:00Z",
        "--video", f"cam12={short('cam12')}@2026-11-29T11:00:00+01:00",
    )  # fmt: skip
    assert [link for link in found["links"] if link["state"] == "accepted"]
    assert "time and place between" not in said
    assert "pictures: always" not in said


def test_the_reference_has_every_option_of_the_demo(repository: Path) -> None:
    page = (repository / "docs/commands.md").read_text()
    section = page.split("## scripts/demo\n")[1].split("\n## ")[0]
    named = re.findall(r"^\| `(--[a-z-]+)", section, re.MULTILINE)
    known = [o for a in script._parser()._actions for o in a.option_strings if o.startswith("--")]
    assert sorted([*named, "--help"]) == sorted(known)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--detector", "nosuch"], "is not in the catalogue"),
        (["--detector", "/no/such"], "there is no such bundle"),
        (["--detector", "{0}/none.onnx"], "there is no such file"),
        (["--detector", "{0}/bare.onnx"], "needs --family"),
        (["--detector", "{0}", "--family", "yolox"], "is for a bare .onnx"),
        (["--site", "{0}/site.toml"], "is for --video"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(
    tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "bare.onnx").touch()
    given = script._parser().parse_args([o.format(tmp_path) for o in options])
    with pytest.raises(InputError, match=said) as error:
        script.demo(given, tmp_path / "work")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--vidoe", "ground={0}"], "unrecognized arguments: --vidoe ground=rtsp://..."),
        (["--vidoe=ground={0}"], "unrecognized arguments: --vidoe=ground=rtsp://..."),
        (["{0}", "--keep"], "unrecognized arguments: rtsp://..."),
        (["--tiles", "2", "ground={0}"], "invalid int value: 'ground=rtsp://..."),
    ],
)
def test_a_mistyped_option_does_not_repeat_a_cameras_login(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script._parser().parse_args([w.format("rtsp://me:sec ret@10.0.0.7/s") for w in words])
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert "me:" not in told
    assert "ret@" not in told


def test_what_cannot_be_a_video_is_said_in_one_line(repository: Path, tmp_path: Path) -> None:
    done = run_demo(repository, "--video", f"ground={tmp_path}/none.mp4")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: --video ground={tmp_path}/none.mp4: there is no file {tmp_path}/none.mp4\n"
    )


def mp4(path: Path, made_s: int, length: int = 0, version: int = 0) -> Path:
    """The head of an MP4 file: ``ftyp``, then ``moov`` with its ``mvhd``."""
    form = ">IIII" if version == 0 else ">QQIQ"
    body = bytes([version, 0, 0, 0]) + struct.pack(form, made_s, made_s, 1000, length)
    mvhd = struct.pack(">I4s", 8 + len(body) + 16, b"mvhd") + body + bytes(16)
    moov = struct.pack(">I4s", 8 + len(mvhd), b"moov") + mvhd
    path.write_bytes(struct.pack(">I4s", 16, b"ftyp") + bytes(8) + moov)
    return path


@pytest.mark.parametrize("version", [0, 1])
def test_a_start_is_read_from_the_container(tmp_path: Path, version: int) -> None:
    path = mp4(tmp_path / "drone one.mp4", 3_900_000_000, 12_500, version)
    (video,) = read_videos([f"aerial={path}"], None)
    assert video.start_ns == (3_900_000_000 - 2_082_844_800) * 10**9
    assert (video.start_of, video.error_ms, video.length_s) == ("container", 1000, 12.5)
    assert (video.camera, video.view) == ("drone-one", "aerial")
    (video,) = read_videos([f"aerial={path}@unknown"], None)
    assert (video.start_of, video.start_ns) == ("unknown", None)


@pytest.mark.parametrize(
    "content", [b"", b"x", bytes(range(64))[::-1], b"\xff" * 200, struct.pack(">I4s", 8, b"moov")]
)
def test_a_container_that_says_nothing_has_no_start(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v.mp4").write_bytes(content)
    assert container_times(tmp_path / "v.mp4") == (None, None)
    mp4(tmp_path / "zero.mp4", 0)
    assert container_times(tmp_path / "zero.mp4")[0] is None


def test_starts_are_dates_or_seconds_on_one_clock(tmp_path: Path) -> None:
    a, b = mp4(tmp_path / "a.mp4", 0), mp4(tmp_path / "b@home.mp4", 0)
    first, second = read_videos([f"aerial={a}@0", f"ground={b}@12.5"], None)
    assert (first.start_ns, second.start_ns) == (COMMON_ZERO_NS, COMMON_ZERO_NS + 12_500_000_000)
    (video,) = read_videos([f"ground={b}"], None)
    assert video.source == str(b)
    known, placed = read_videos([f"aerial={a}@2026-11-29T10:00:00Z", f"ground={b}"], None)
    assert placed.start_ns == known.start_ns, "near enough for looks to be compared ..."
    assert (known.error_ms, placed.error_ms) == (0, PLACED_ERROR_MS), "... and for nothing else"


def test_a_url_keeps_its_login_and_shows_none_of_it() -> None:
    (video,) = read_videos(["ground=rtsp://me:secret@10.0.0.7/s"], None)
    assert (video.source, video.camera, video.live) == (
        "rtsp://me:secret@10.0.0.7/s",
        "ground",
        True,
    )
    assert "secret" not in video.name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("drone.mp4", "write VIEW=FILE"),
        ("side={0}", "VIEW is aerial or ground"),
        ("ground={0}@yesterday", "START 'yesterday' is none"),
        ("ground={0}@2026-11-29T10:00:00", "with its zone"),
        ("ground={0}@1969-01-01T00:00:00Z", "before 1971"),
        ("ground=/dev/video0", "USB is not read"),
        ("ground=http://x/y.mp4", "give a file, or rtsp://"),
        ("ground={0}@nan", "START 'nan' is none"),
        ("ground={0}@٣", "START '٣' is none"),
        ("ground={0}@12\n", "START '12\\n' is none"),
        ("ground={0}@9999-12-31T23:59:59Z", "after 2099"),
        ("ground=~nobody-of-this-name/v.mp4", "there is no file"),
        ("ground=/" + 300 * "x", "File name too long"),
        ("ground=/", "/ is a folder"),
        ("ground=rtsp://10.0.0.7/s@2026-11-29T10:00:00Z", "a live camera takes no @START"),
    ],
)
def test_a_wrong_video_is_named(tmp_path: Path, given: str, said: str) -> None:
    text = given.format(mp4(tmp_path / "v.mp4", 0))
    with pytest.raises(InputError) as error:
        read_videos([text], None)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given",
    [
        ["rtsp://me:secret@10.0.0.7/s"],
        ["side=rtsp://me:secret@10.0.0.7/s"],
        ["ground=rtsp://me:sec@secret@10.0.0.7/s"],
        ["ground=rtsp://me:secret@10.0.0.7/s@12.5"],
        ["ground=http://me:secret@10.0.0.7/s"],
        ["ground=rtsp://10.0.0.7/s?password=secret", "aerial={0}@3"],
    ],
)
def test_no_refusal_shows_a_cameras_login(tmp_path: Path, given: list[str]) -> None:
    path = mp4(tmp_path / "v.mp4", 0)
    with pytest.raises(InputError) as error:
        read_videos([text.format(path) for text in given], None)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        ["--video", "ground=rtsp://me:secret@10.0.0.7/s"],
        ["--camera.source", "srt://10.0.0.7:8890?passphrase=secret@secret"],
        ["--camera.source=srt://10.0.0.7:8890?passphrase=secret@secret"],
    ],
)
def test_no_process_list_shows_a_cameras_login(option: list[str]) -> None:
    """The arguments of the demo and of a device, as everybody on the machine reads them."""
    code = (
        "import sys; from skyreid.contract.process_list import hide_secrets\n"
        "assert hide_secrets(sys.argv); print(open('/proc/self/cmdline').read())"
    )
    command = [sys.executable, "-c", code, *option]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert option[0].partition("=")[0] in done.stdout
    assert "secret@" not in done.stdout


def test_a_cameras_login_is_for_its_owner_alone(tmp_path: Path) -> None:
    videos = read_videos(["ground=rtsp://me:secret@10.0.0.7/s"], None)
    chain = Chain(videos, tmp_path)
    assert "secret" in (chain.work / "ground.toml").read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file() and "secret" in path.read_text():
            assert path.stat().st_mode & 0o077 == 0


def test_a_file_may_be_called_anything(tmp_path: Path) -> None:
    """Names that once broke TOML, replaced the server's settings or were taken for a START."""
    names = ["\U0001f681 a.mp4", 'b"\\\x7f.mp4', "server.mp4", "site.mp4", "broker.mp4", "c@5"]
    paths = [mp4(tmp_path / name, 3_900_000_000) for name in names]
    videos = read_videos([f"ground={path}" for path in paths], None)
    chain = Chain(videos, tmp_path / "a run")
    for video, path in zip(videos, paths, strict=True):
        said = read_table(chain.work / f"{video.camera}.toml", "settings")
        assert said["camera"]["source"] == str(path)
    assert "journal" in read_table(chain.work / "server.toml", "settings")
    site = read_site(chain.work / "site.toml")
    assert [camera.id for camera in site.camera] == [video.camera for video in videos]


def test_a_file_that_cannot_stand_in_settings_is_named(tmp_path: Path) -> None:
    path = mp4(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")), 0)
    with pytest.raises(InputError, match="no UTF-8"):
        Chain(read_videos([f"ground={path}"], None), tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "{0}/file"], "--out {0}/file: File exists"),
        (["--out", "{0}"], "--out {0}: is not empty"),
        (["--json", "{0}/none/out.json"], "--json {0}/none/out.json: No such file"),
        (["--video", "ground=/none", "--no-geometry"], "--no-geometry: is for a clip"),
        (["--video", "ground=/none", "--detector", "yolox-nano"], "there is no file /none"),
    ],
)
def test_nothing_is_fetched_or_left_for_a_wrong_option(
    repository: Path, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "file").touch()
    done = run_demo(repository, "--out", tmp_path / "new", *(o.format(tmp_path) for o in options))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said.format(tmp_path)}") or said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "new").exists()


def test_seconds_and_dates_are_not_mixed(tmp_path: Path) -> None:
    a = mp4(tmp_path / "a.mp4", 0)
    with pytest.raises(InputError, match="seconds are on a clock of their own"):
        read_videos([f"ground={a}@3", f"aerial={a}@2026-11-29T10:00:00Z"], None)
    b = mp4(tmp_path / "b.mp4", 3_900_000_000)
    with pytest.raises(InputError, match=r"b\.mp4 is not on it, it says a date itself"):
        read_videos([f"ground={a}@3", f"aerial={b}"], None)


def test_a_site_file_says_which_cameras_there_are(tmp_path: Path) -> None:
    a = mp4(tmp_path / "a.mp4", 0)
    site = Site.model_validate({"id": "mine", "camera": ({"id": "uav", "view": "aerial"},)})
    (video,) = read_videos([f"uav={a}"], site)
    assert (video.camera, video.view, video.posed) == ("uav", "aerial", False)
    for given, said in ((f"ground={a}", "which camera this is: uav"),):
        with pytest.raises(InputError, match=said):
            read_videos([given], site)
    with pytest.raises(InputError, match="has a video already"):
        read_videos([f"uav={a}", f"uav={a}"], site)
