"""Shared by all tests: where the evaluation material lies."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]
SLOW = tuple((ROOT / "tests" / "slow.txt").read_text().split())
"""Folders and files whose tests train, export, render, play video, or start brokers, browsers and
servers: marked `slow`, which `scripts/test --quick` leaves out."""

# Both are measured by the clock on the wall: an example of 9 ms takes .3 s where others have the
# CPU, and is none the worse. On top of what is in force: of CI Hypothesis knows by itself.
settings.register_profile(
    "by-no-clock",
    settings(),
    deadline=None,
    suppress_health_check=(*settings().suppress_health_check, HealthCheck.too_slow),
)
settings.load_profile("by-no-clock")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared evaluation material (``SKYREID_SHARED``, default ``../shared``).

    Users do not have it: the test is skipped. In CI its absence is a failure.
    """
    path = Path(os.environ.get("SKYREID_SHARED", ROOT.parent / "shared"))
    if path.is_dir():
        return path.resolve()
    reason = f"no evaluation material at {path}; set SKYREID_SHARED"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What once broke a decoder comes first; what takes long is marked."""
    slow = [ROOT / "tests" / name for name in SLOW]
    for item in items:
        if any(item.path.is_relative_to(place) for place in slow):
            item.add_marker("slow")
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "corpus"))


@pytest.fixture(scope="session")
def media_people(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight frames of the campus clip, with people in each."""
    import cv2

    folder = tmp_path_factory.mktemp("campus")
    video = cv2.VideoCapture(str(shared / "media" / "vtest.mp4"))
    for number in range(8):
        video.set(cv2.CAP_PROP_POS_FRAMES, 30 + 60 * number)
        there, picture = video.read()
        assert there
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


@pytest.fixture(scope="session")
def yolox_bundle(
    shared: Path, media_people: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """YOLOX-nano as a bundle, in fp32 and fp16. Copy it before you change it."""
    from skyreid.export.__main__ import main

    out = tmp_path_factory.mktemp("yolox") / "yolox-nano"
    command = ["bundle", str(shared / "media" / "yolox_nano.onnx"), "--kind", "detector"]
    command += ["--family", "yolox", "--golden", str(media_people), "--formats", "fp32,fp16"]
    assert main([*command, "--licence", "Apache-2.0", "--out", str(out)]) == 0
    return out
