import errno
import os
from pathlib import Path

import pytest

from skyreid.contract.errors import SettingsError, SkyreidError
from skyreid.train import durable


def interrupted(path: Path, error: BaseException) -> None:
    with durable.replacing(path) as partial:
        partial.write_bytes(b"half")
        raise error


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    durable.write(path, b"old")
    with pytest.raises(SkyreidError, match=r"cannot write .*/x: .*No space left"):
        interrupted(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(KeyboardInterrupt):
        interrupted(path, KeyboardInterrupt())
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SkyreidError, match=r"cannot write .*file/x"):
        durable.write(tmp_path / "file" / "x", b"")
    with (
        pytest.raises(SkyreidError, match=r"cannot write to .*file/run"),
        durable.alone(tmp_path / "file" / "run"),
    ):
        pass


def test_a_folder_is_one_run_s_at_a_time(tmp_path: Path) -> None:
    with durable.alone(tmp_path / "run"):
        with (
            pytest.raises(SettingsError, match="another run writes to"),
            durable.alone(tmp_path / "run"),
        ):
            pass
    with durable.alone(tmp_path / "run"):  # given back
        pass
