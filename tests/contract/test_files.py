"""Files and folders that are whole or not there, and locks, held against kills and full disks."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from skyreid.contract import files
from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
KILLED_BEFORE_THE_RENAME = """
import os, signal, sys
from pathlib import Path
from skyreid.contract import files
path = Path(sys.argv[1])
if sys.argv[2] == "file":
    Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    files.write(path, b"new" * 1000)
else:
    with files.new_folder(path) as draft:
        (draft / "a").write_bytes(b"new")
        os.kill(os.getpid(), signal.SIGKILL)
"""
NO_FILE_ABOVE_64_KIB = """
import resource, sys
from pathlib import Path
from skyreid.contract.errors import InputError
from skyreid.contract import files
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    files.write(Path(sys.argv[1]), bytes(1 << 20))
except InputError as error:
    print(error)
"""
WRITES_OFTEN = """
import os, sys
from pathlib import Path
from skyreid.contract import files
os.fsync = lambda handle: None  # a disk would take the time in which two meet
letter, path = sys.argv[1].encode(), Path(sys.argv[2])
for _ in range(500):
    files.write(path, letter * 200_000)
"""
HOLDS = """
import sys
from pathlib import Path
from skyreid.contract.files import FileLock
lock = FileLock(Path(sys.argv[1]), of="x")
print("has it", flush=True)
sys.stdin.read()
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def kill_before_the_rename(path: Path, kind: str) -> None:
    process = python(KILLED_BEFORE_THE_RENAME, path, kind)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_and_nothing_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x"
    files.write(path, b"old")
    files.write(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["x"]


def test_a_kill_before_the_rename_leaves_the_old_and_the_next_one_clears_up(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    kill_before_the_rename(path, "file")
    assert path.read_bytes() == b"old"
    assert len(names(tmp_path)) > 1, "the kill came too early to leave anything"
    files.write(path, b"newer")
    assert path.read_bytes() == b"newer"
    assert names(tmp_path) == ["x"]


def test_a_folder_that_a_kill_cut_short_is_not_there_and_the_next_one_clears_up(
    tmp_path: Path,
) -> None:
    path = tmp_path / "x"
    kill_before_the_rename(path, "folder")
    assert not path.exists()
    assert len(names(tmp_path)) > 1
    with files.new_folder(path) as draft:
        assert not path.exists()
        (draft / "b").write_bytes(b"newer")
    assert names(tmp_path) == ["x"]
    assert names(path) == ["b"]


def test_two_that_write_at_once_leave_the_whole_of_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    files.write(path, b"a" * 200_000)
    both = [python(WRITES_OFTEN, letter, path) for letter in "bc"]
    while any(process.poll() is None for process in both):
        data = path.read_bytes()
        assert len(data) == 200_000
        assert data == data[:1] * 200_000, "half of one, half of the other"
    for process in both:
        process.communicate()
        assert process.returncode == 0, "one got in the other's way"
    assert names(tmp_path) == ["x"]


def test_what_is_renamed_is_on_the_disk_before_and_its_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename may reach the disk before the content does: an empty file after a power cut."""
    done: list[str] = []

    def fsync(handle: int) -> None:
        done.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")

    def replace(self: Path, target: Path) -> Path:
        done.append("rename")
        os.replace(self, target)
        return target

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(Path, "rename", replace)
    (tmp_path / "room").mkdir()
    files.write(tmp_path / "room" / "x", b"new")
    assert done == ["fsync .x.partial", "rename", "fsync room"]
    done.clear()
    with files.new_folder(tmp_path / "room" / "y") as draft:
        (draft / "a").mkdir()
        (draft / "a" / "b").write_bytes(b"new")
    before, after = done[: done.index("rename")], done[done.index("rename") :]
    assert sorted(before) == ["fsync .y.partial", "fsync a", "fsync b"]
    assert after == ["rename", "fsync room"]


@pytest.mark.parametrize("error", [FULL, KeyboardInterrupt()])
def test_a_block_that_ends_with_an_error_leaves_the_old_and_nothing_else(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "x"
    files.write(path, b"old")
    expected = InputError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected) as caught, files.replacing(path) as partial:  # noqa: PT012
        partial.write_bytes(b"half")
        raise error
    if isinstance(error, OSError):
        assert str(caught.value) == (
            f"cannot write {path}: No space left on device; nothing was changed"
        )
    with pytest.raises(expected), files.new_folder(tmp_path / "y") as draft:  # noqa: PT012
        (draft / "a").write_bytes(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_a_write_that_the_system_cuts_short_leaves_the_old_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    process = python(NO_FILE_ABOVE_64_KIB, path)
    said, _ = process.communicate()
    assert said == f"cannot write {path}: File too large; nothing was changed\n"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def no_folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("x")
    return tmp_path / "file" / "x"


def read_only(tmp_path: Path) -> Path:
    return Path("/proc/sys/x")  # for root too


@pytest.mark.parametrize("place", [no_folder, read_only])
def test_a_place_that_cannot_be_written_is_named_in_one_line(
    tmp_path: Path, place: Callable[[Path], Path]
) -> None:
    path = place(tmp_path)
    for attempt in (
        lambda: files.write(path, b""),
        lambda: files.new_folder(path).__enter__(),
        lambda: FileLock(path, of=f"journal {path}"),
    ):
        with pytest.raises(InputError) as caught:
            attempt()
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_folder_is_not_put_over_another(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "kept").write_text("old")
    with (
        pytest.raises(InputError, match=r"cannot write .*/x: Directory not empty"),
        files.new_folder(tmp_path / "x") as draft,
    ):
        (draft / "a").write_text("new")
    assert names(tmp_path / "x") == ["kept"]
    assert names(tmp_path) == ["x"]


def test_a_link_is_followed_and_stays_one(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/file")
    for content in (b"first", b"second"):
        files.write(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "there" / "file").read_bytes() == content
    assert names(tmp_path / "there") == ["file"]


def test_a_file_does_not_take_the_place_of_a_pipe_or_a_device(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "null", Path("/")):
        with pytest.raises(InputError, match="it is no file; nothing was changed"):
            files.write(path, b"x")
    assert (tmp_path / "pipe").is_fifo()
    assert names(tmp_path) == ["null", "pipe"]


def test_a_link_in_place_of_the_lock_or_the_temporary_is_not_written_through(
    tmp_path: Path,
) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / ".a.lock").symlink_to("other")
    with pytest.raises(InputError, match=r"cannot write .*/a: "):
        files.write(tmp_path / "a", b"x")
    (tmp_path / ".b.partial").symlink_to("other")
    files.write(tmp_path / "b", b"x")
    assert (tmp_path / "other").read_bytes() == b"other"


def test_a_lock_is_one_s_at_a_time_and_the_error_says_whose(tmp_path: Path) -> None:
    path = tmp_path / "room" / "x.lock"
    with FileLock(path, of="spool x"):
        with pytest.raises(InputError) as caught:
            FileLock(path, of="spool x", remedy="give each device its own")
        assert str(caught.value) == (
            f"spool x is in use by process {os.getpid()} ({Path(sys.argv[0]).name}): "
            "give each device its own"
        )
    assert names(path.parent) == []


def test_a_lock_given_back_twice_leaves_the_next_one_s_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    first = FileLock(path, of="x")
    first.close()
    with FileLock(path, of="x"):
        first.close()
        with pytest.raises(InputError, match="in use"):
            FileLock(path, of="x")


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = python(HOLDS, path)
    assert process.stdout is not None
    assert process.stdout.readline() == "has it\n"
    with pytest.raises(InputError, match=rf"in use by process {process.pid} \(-c\)"):
        FileLock(path, of="x")
    process.kill()
    process.communicate()
    assert path.exists(), "what it left is no lock"
    FileLock(path, of="x").close()


def test_those_who_wait_get_it_one_after_the_other(tmp_path: Path) -> None:
    """Whoever gives the lock back takes its file away, which others have open already."""
    path, inside, most = tmp_path / "x.lock", [0], [0]
    told: list[str] = []

    def turn(_: int) -> None:
        for _ in range(50):
            with FileLock(path, of="x", waiting=told.append):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.0005)
                inside[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(turn, range(8)))
    assert most == [1]
    assert set(told) <= {f"process {os.getpid()} ({Path(sys.argv[0]).name})", "another process"}
    assert names(tmp_path) == []


def test_a_lock_in_what_is_a_file_says_so(tmp_path: Path) -> None:
    """As `--out FILE` is, of a command that makes a folder."""
    file = tmp_path / "out"
    file.write_text("x")
    for inside in (file / ".lock", file / "deeper" / ".lock"):
        with pytest.raises(InputError) as raised:
            FileLock(inside, of="run out")
        assert str(raised.value) == f"run out cannot be used: {inside.parent} is no folder"
