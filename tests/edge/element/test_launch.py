"""`reidembed` from the command line, and in processes that loaded GStreamer before it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from test_broken_models import unknown_operator, write_broken

from skyreid.edge.element.options import PROPERTIES

SOURCE = "videotestsrc pattern=smpte is-live=true ! video/x-raw,format=I420,width=320,height=240"


def words(models: Path, *, source: str = SOURCE, bundle: str = "tiny", sink: str = "") -> list[str]:
    last = sink or "fakesink"
    return f"{source} ! reidembed bundle={models}/{bundle} view=ground ! {last}".split()


def edge(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "skyreid.edge", *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def test_gst_inspect_says_every_property(environment: dict[str, str]) -> None:
    done = edge(environment, "gst-inspect")
    assert done.returncode == 0, done.stderr
    for name, (_, _, blurb) in PROPERTIES.items():
        assert re.search(rf"^    {name} +g\w+ .* {re.escape(blurb)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^    stats +GstStructure +read only", done.stdout, re.MULTILINE)
    other = edge(environment, "gst-inspect", "tee")
    assert other.returncode == 2
    assert "gst-inspect-1.0 tee" in other.stderr


def test_the_page_lists_every_property_and_its_default(repository: Path) -> None:
    page = (repository / "docs" / "gstreamer.md").read_text()
    rows = re.findall(
        r"^\| `([a-z-]+)` \| ?([^|]*)\|", page.split("## Properties")[1], re.MULTILINE
    )
    said = {name: default.strip(" `") for name, default in rows if name in PROPERTIES}
    assert said == {
        name: "" if default in ("", 0) else f"{default:g}" if kind is float else str(default)
        for name, (kind, default, _) in PROPERTIES.items()
    }


def test_a_pipeline_that_ends_is_exit_0(models: Path, environment: dict[str, str]) -> None:
    source = SOURCE.replace("is-live=true", "num-buffers=5")
    done = edge(environment, "gst-launch", "-m", *words(models, source=source))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("bundle", "sink", "code", "said"),
    [
        ("nothing", "fakesink", 2, "reidembed0: bundle "),
        ("broken", "fakesink", 2, "does not load"),
        ("tiny", "nosuch", 4, 'no element "nosuch"'),
        ("tiny", "filesink location=/nowhere/x", 1, "/nowhere/x"),
    ],
)
def test_what_goes_wrong_is_one_line_and_an_exit_code(
    models: Path,
    tmp_path: Path,
    environment: dict[str, str],
    bundle: str,
    sink: str,
    code: int,
    said: str,
) -> None:
    """A broken model throws in C++ beside GStreamer: it has to stay an exception."""
    write_broken(tmp_path / "broken", unknown_operator())
    home = tmp_path if bundle == "broken" else models
    done = edge(environment, "gst-launch", *words(home, bundle=bundle, sink=sink))
    assert done.returncode == code, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error (")]
    assert said in line
    assert "Traceback" not in done.stderr


def test_an_application_that_loaded_gstreamer_first_gets_exceptions_too(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    write_broken(tmp_path / "broken", unknown_operator())
    code = (
        "import gi; gi.require_version('Gst', '1.0')\n"
        "from gi.repository import Gst; Gst.init(None)\n"
        "import numpy, cv2, skyreid.edge.element\n"
        f"p = Gst.parse_launch('videotestsrc ! reidembed bundle={tmp_path}/broken view=ground ! "
        "fakesink')\n"
        "p.set_state(Gst.State.PLAYING)\n"
        "m = p.get_bus().timed_pop_filtered(120 * Gst.SECOND, Gst.MessageType.ERROR)\n"
        "print(m.parse_error()[0].message)\n"
        "p.set_state(Gst.State.NULL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "does not load" in done.stdout


def test_a_signal_ends_the_stream_first_where_that_is_asked_for(
    models: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Else the file has no index, and nobody hears the last word about who was there."""
    source = SOURCE.replace("width=320,height=240", "width=320,height=240,framerate=30/1")
    sink = f"x264enc tune=zerolatency ! mp4mux ! filesink location={tmp_path}/out.mp4"
    process = subprocess.Popen(
        [sys.executable, "-m", "skyreid.edge", "gst-launch", "-e", "-m",
         *words(models, source=source, sink=sink)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if "carried detections" in line:  # a hundred frames have passed
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert b"moov" in (tmp_path / "out.mp4").read_bytes()
