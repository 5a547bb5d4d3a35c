"""The cache's decisions; the builder is a function that returns chosen bytes."""

import dataclasses
import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from skyreid.bundle.engine import Built
from skyreid.bundle.engine_cache import EngineKey, cached, ensure
from skyreid.contract.errors import InputError

KEY = EngineKey("tensorrt", "10.3.0", "sm87", "a" * 64, "fp16", "1x8x4x3:2x8x4x3:8x8x4x3")


def build_nothing(timings: bytes) -> Built:
    raise AssertionError("a good engine was built again")


def build_plan(timings: bytes) -> Built:
    return Built(b"plan of " + timings, b"timings", 1)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    ensure(tmp_path / "engines", KEY, build_plan)
    return tmp_path / "engines"


def test_a_good_engine_is_loaded_and_not_built_again(cache: Path) -> None:
    engine = ensure(cache, KEY, build_nothing)
    assert engine.plan == b"plan of "
    assert engine.rebuilt_because == ""


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("version", "10.16.2", "built by TensorRT 10.3.0, needed is 10.16.2"),
        ("api", "tensorrt_rtx", "built by tensorrt, needed is tensorrt_rtx"),
        ("device", "sm110", "built for sm87, needed is sm110"),
        ("profile", "1x8x4x3:1x8x4x3:1x8x4x3", "built for the shapes"),
    ],
)
def test_an_engine_of_another_version_device_or_shape_is_built_again(
    cache: Path, field: str, value: Any, said: str
) -> None:
    engine = ensure(cache, dataclasses.replace(KEY, **{field: value}), build_plan)
    assert said in engine.rebuilt_because


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("version", "10.16.2", "foreign: it was built by TensorRT 10.16.2"),
        ("device", "sm110", "foreign: it was built for sm110"),
        ("onnx_sha256", "b" * 64, "foreign: it was built from the model bbbb"),
        ("numeric_format", "fp32", "foreign: it was built in fp32"),
    ],
)
def test_an_engine_put_under_the_name_of_another_is_built_again(
    cache: Path, field: str, value: str, said: str
) -> None:
    record = cache / f"{KEY.stem()}.json"
    content = json.loads(record.read_text())
    content["key"][field] = value
    record.write_text(json.dumps(content))
    assert said in ensure(cache, KEY, build_plan).rebuilt_because
    assert cached(cache, KEY) == (b"plan of timings", "")


def test_a_truncated_a_changed_and_an_unrecorded_plan_have_each_their_reason(cache: Path) -> None:
    plan, record = cache / f"{KEY.stem()}.plan", cache / f"{KEY.stem()}.json"
    good = plan.read_bytes()
    plan.write_bytes(good[:-1])
    assert "truncated or grown: 7 of 8 bytes" in cached(cache, KEY)[1]
    plan.write_bytes(bytes([good[0] ^ 1]) + good[1:])
    assert "its digest is not the recorded one" in cached(cache, KEY)[1]
    plan.write_bytes(good)
    text = record.read_text()
    record.write_text(text.replace('"schema_version": 1', '"schema_version": 2'))
    assert "has schema 2" in cached(cache, KEY)[1]
    for damage in ("", "[]", "{}", text.replace("plan_sha256", "other")):
        record.write_text(damage)
        assert cached(cache, KEY) == (None, f"{record.name} is damaged")
    record.unlink()
    assert "has no record beside it" in cached(cache, KEY)[1]
    assert ensure(cache, KEY, build_plan).plan == b"plan of timings"


def test_a_directory_that_everybody_may_write_is_refused(tmp_path: Path) -> None:
    open_to_all = tmp_path / "engines"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(InputError, match="chmod o-w"):
        ensure(open_to_all, KEY, build_plan)


def test_a_build_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(timings: bytes) -> Built:
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        ensure(tmp_path, KEY, fail)
    assert list(tmp_path.iterdir()) == []


def test_two_that_need_one_engine_build_it_once(tmp_path: Path) -> None:
    """The second waits, says so, and takes what the first has built."""
    building, waits = threading.Event(), threading.Event()
    said: list[str] = []

    def build_slowly(timings: bytes) -> Built:
        building.set()
        assert waits.wait(60)
        return build_plan(timings)

    def second(line: str) -> None:
        said.append(line)
        waits.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(ensure, tmp_path, KEY, build_slowly)
        assert building.wait(60)
        two = pool.submit(ensure, tmp_path, KEY, build_nothing, second)
        assert one.result(60).plan == two.result(60).plan
    assert len(said) == 1
    assert re.fullmatch(r"process \d+ \(.*\) builds an engine here: wait for it", said[0])
    assert two.result().rebuilt_because == ""


def lay(directory: Path, content: bytes = b"EVIL PLAN") -> Path:
    """A cache with a plan and a record that fit each other, as a stranger would write them."""
    ensure(directory, KEY, lambda timings: Built(content, b"", 1))
    return directory


@pytest.mark.parametrize(
    ("mode", "said"), [(0o777, "everybody may write it"), (0o775, "may write it: chmod g-w")]
)
def test_a_cache_that_anybody_else_may_write_is_refused(
    tmp_path: Path, mode: int, said: str
) -> None:
    directory = lay(tmp_path / "engines")
    directory.chmod(mode)
    with pytest.raises(InputError, match=said):
        ensure(directory, KEY, build_nothing)


def test_a_cache_below_a_folder_in_which_anybody_may_rename_is_refused(tmp_path: Path) -> None:
    directory = lay(tmp_path / "open" / "engines")
    directory.parent.chmod(0o777)
    with pytest.raises(InputError, match="open, above it: everybody may write it"):
        ensure(directory, KEY, build_nothing)
    directory.parent.chmod(0o1777)  # as /tmp: there only the owner renames, and that is us or root
    if os.geteuid() == 0:
        assert ensure(directory, KEY, build_nothing).plan == b"EVIL PLAN"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_a_cache_of_another_user_is_refused_and_a_file_of_theirs_is_built_again(
    tmp_path: Path,
) -> None:
    theirs = lay(tmp_path / "theirs")
    os.chown(theirs, 65534, 65534)
    (tmp_path / "link").symlink_to(theirs)
    for directory in (theirs, tmp_path / "link"):
        with pytest.raises(InputError, match="it belongs to user 65534"):
            ensure(directory, KEY, build_nothing)
    ours = lay(tmp_path / "ours")
    plan = ours / f"{KEY.stem()}.plan"
    os.chown(plan, 65534, 65534)
    engine = ensure(ours, KEY, build_plan)
    assert "may be anybody's: it belongs to user 65534" in engine.rebuilt_because
    assert plan.stat().st_uid == 0
    other = lay(tmp_path / "other")
    (other / f"{KEY.stem()}.json").rename(other / "elsewhere")
    (other / f"{KEY.stem()}.json").symlink_to(other / "elsewhere")
    assert "it is no file" in ensure(other, KEY, build_plan).rebuilt_because
    other.chmod(0o755)  # files of ours that others may write, where they can reach them
    plan = other / f"{KEY.stem()}.plan"
    plan.chmod(0o666)
    assert "everybody may write it" in ensure(other, KEY, build_plan).rebuilt_because
