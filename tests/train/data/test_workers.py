import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from skyreid.contract.errors import SettingsError, SkyreidError
from skyreid.train.data import workers
from skyreid.train.data.augment import Augmentation, Strength
from skyreid.train.data.workers import Workers, maker

HOW = Augmentation(
    strength=Strength(pad=2, augmix=0.3, erase_tries=10, erase_fill="noise"),
    mean=(120.0, 110.0, 100.0),
    std=(60.0, 61.0, 62.0),
    seed=5,
)
ROWS, SLOTS = 7, 3


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cache") / "pictures.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 32, 16, 3)).astype(np.uint8))
    return path


@pytest.fixture
def two(stored: Path) -> Iterator[Workers]:
    with Workers(2, (32, 16), stored, HOW, ROWS, SLOTS) as started:
        started.begin(0, 0, range(ROWS))()
        yield started


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while not all(map(gone, pids)):
        assert time.monotonic() < deadline, "a worker outlives who asked it"
        time.sleep(0.02)


def test_any_number_of_workers_makes_the_bytes_of_none_and_ends_without_a_word(
    stored: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    images = np.load(stored)
    plans = [(n, np.random.default_rng(n).integers(0, 40, ROWS).tolist()) for n in (0, 1, 9, 2, 3)]
    with maker(0, images, stored, HOW, ROWS, SLOTS) as begin:
        expected = [begin(number, 4, index)().copy() for number, index in plans]
    assert len({batch.tobytes() for batch in expected}) == len(plans)
    for count in (1, 2, 3):
        with Workers(count, (32, 16), stored, HOW, ROWS, SLOTS) as started:
            begun = [started.begin(number, 4, index) for number, index in plans[:SLOTS]]
            made = [end() for end in begun]
            for found, wanted in zip(made, expected, strict=False):
                np.testing.assert_array_equal(found, wanted)
            # What comes next lies in the place of the first, and of no other.
            for number, index in plans[SLOTS:]:
                made.append(started.begin(number, 4, index)())
            for found, wanted in zip(made[-SLOTS:], expected[-SLOTS:], strict=True):
                np.testing.assert_array_equal(found, wanted)
            for process in started._processes:
                assert os.getpgid(process.pid) == process.pid  # a Ctrl-C is not for them
        assert [process.returncode for process in started._processes] == [0] * count
    assert capfd.readouterr().err == ""


def test_a_slow_worker_holds_nobody_up(two: Workers, stored: Path) -> None:
    """The other one goes on with its part of the next batches, as many as there is room for."""
    slow = two._processes[0]
    os.kill(slow.pid, signal.SIGSTOP)
    try:
        begun = [two.begin(number, 0, range(ROWS)) for number in range(1, 1 + SLOTS)]
        made = two._memory[:, two._cuts[1] :]
        images = np.load(stored)
        whole = [HOW.batch(images, number, 0, range(ROWS)) for number in range(1, 1 + SLOTS)]
        # The first batch of the fixture took the first slot.
        theirs = [whole[(slot - 1) % SLOTS][two._cuts[1] :] for slot in range(SLOTS)]
        deadline = time.monotonic() + 60
        while not np.array_equal(made, theirs):
            assert time.monotonic() < deadline, "the quick one waits for the slow one"
            time.sleep(0.01)
    finally:
        os.kill(slow.pid, signal.SIGCONT)
    for end, wanted in zip(begun, whole, strict=True):
        np.testing.assert_array_equal(end(), wanted)


def test_a_worker_that_is_killed_with_batches_before_it_is_no_hang(two: Workers) -> None:
    """Who ends with more to do than one batch ends all the same, and so does who was asking."""
    for process in two._processes:
        os.kill(process.pid, signal.SIGSTOP)
    begun = [two.begin(number, 0, range(ROWS)) for number in range(1, 1 + SLOTS)]
    os.kill(two._processes[1].pid, signal.SIGKILL)
    os.kill(two._processes[0].pid, signal.SIGCONT)
    for end in begun:
        with pytest.raises(SkyreidError, match="was killed by signal 9"):
            end()
    two.close()
    assert [process.returncode for process in two._processes] == [0, -9]


def test_a_worker_that_is_killed_is_said_in_one_line(two: Workers) -> None:
    victim = two._processes[1].pid
    os.kill(victim, signal.SIGKILL)
    said = rf"worker {victim}, .* was killed by signal 9 \(.*memory\); .* fewer --workers"
    for _ in range(2):  # and the next time too: nobody waits for it
        with pytest.raises(SkyreidError, match=said):
            two.begin(1, 0, range(ROWS))()


def test_a_worker_that_is_killed_at_work_is_no_hang(
    two: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has been told what to do, and does not live to answer."""
    hear = Workers._hear

    def killed_first(self: Workers, process: subprocess.Popen[str]) -> None:
        os.kill(self._processes[1].pid, signal.SIGKILL)
        hear(self, process)

    os.kill(two._processes[1].pid, signal.SIGSTOP)  # so that it cannot answer before
    monkeypatch.setattr(Workers, "_hear", killed_first)
    with pytest.raises(SkyreidError, match="was killed by signal 9"):
        two.begin(1, 0, range(ROWS))()


def test_pictures_that_cannot_be_read_are_an_error_of_who_asks(tmp_path: Path) -> None:
    with (
        Workers(1, (32, 16), tmp_path / "none.npy", HOW, ROWS, SLOTS) as started,
        pytest.raises(SkyreidError, match=r"cannot augment pictures: FileNotFoundError.*none\.npy"),
    ):
        started.begin(0, 0, range(ROWS))()


def test_workers_do_not_outlive_a_process_that_is_killed(stored: Path) -> None:
    script = f"""
import json, os, signal
from pathlib import Path
from skyreid.train.data.augment import Augmentation
from skyreid.train.data.workers import Workers
how = Augmentation.model_validate_json({HOW.model_dump_json()!r})
started = Workers(1, (32, 16), Path({str(stored)!r}), how, {ROWS}, {SLOTS})
started.begin(0, 0, range({ROWS}))()
print(json.dumps([pid for pid in started.pids]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    wait_until_gone(json.loads(ended.stdout))
    assert ended.stderr == ""


def test_less_than_no_workers_are_refused(stored: Path) -> None:
    with (
        pytest.raises(SettingsError, match="--workers -1"),
        maker(-1, np.load(stored), stored, HOW, ROWS, SLOTS),
    ):
        pass


def test_beside_a_gpu_every_core_but_one_augments(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, processes, gpu, expected in (
        (1, 1, True, 0), (2, 1, True, 1), (16, 1, True, 8), (16, 4, True, 3), (16, 1, False, 0),
    ):  # fmt: skip
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert workers.usual(processes, gpu=gpu) == expected
