"""Data-loader workers: processes that augment the rows of a batch, with the bytes of one.

A worker maps the cached pictures (`pictures.load`), so that all of them share one copy, and writes
its rows straight into a batch that it shares with who asked: no picture travels through a pipe. It
is told what to make in a line of JSON and answers in one. What a row becomes follows from the run's
seed, the batch's number and the row's place (`augment`), so that neither the number of workers nor
who of them is faster can be seen in a result. Several batches may be in the making: a worker that
has made its part of one goes on with its part of the next, and who is slower holds nobody up.

A worker is its own program, not a fork: forks of a process with threads and a GPU hang now and
then. It needs no torch. It ends when its asker does, however that ends, because its input ends
then; when it ends itself, whoever waits for its answer reads that instead and says so.
"""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import PlatformError, SettingsError, SkyreidError, reason
from skyreid.train.data.augment import Augmentation

UInt8 = NDArray[np.uint8]
Float32 = NDArray[np.float32]

MOST = 8  # by default; a faster card than that many cores can feed has more beside it
PATIENCE_S = 10.0  # for a worker that was told to end

Begin = Callable[[int, int, Sequence[int]], Callable[[], Float32]]
"""Of rows of a batch: its number, the place of the first one, and the pictures (`Augmentation`).

What is given waits for them. What was begun first is waited for first.
"""


def usual(processes: int, *, gpu: bool) -> int:
    """How many workers each of this machine's processes takes, unless it is told.

    Beside a GPU every core but one; on a processor none, because training has the cores.
    """
    cores = len(os.sched_getaffinity(0)) // processes
    return min(MOST, cores - 1) if gpu and cores > 1 else 0


def require(count: int) -> None:
    """Refuse a number of workers that there cannot be.

    Raises:
        SettingsError: saying so.
    """
    if count < 0:
        raise SettingsError(f"--workers {count}: give 0 or more")


@contextmanager
def maker(
    count: int, images: UInt8, stored: Path, how: Augmentation, rows: int, slots: int
) -> Iterator[Begin]:
    """What makes batches, by `count` processes, or with 0 by who calls it.

    Args:
        count: of workers, of which there are no more than rows.
        images: RGB uint8 [N, H, W, 3] of the run, the first N of what lies at `stored`.
        stored: the .npy file with them.
        how: they are changed.
        rows: of a batch; each call makes as many.
        slots: a batch lies in memory that the one begun `slots` calls later is written to.

    Raises:
        SettingsError: for less than no workers.
        PlatformError: where workers cannot be started.
    """
    require(count)
    if count == 0:
        yield _here(images, how, rows, slots)
        return
    with Workers(min(count, rows), images.shape[1:3], stored, how, rows, slots) as workers:
        yield workers.begin


def _here(images: UInt8, how: Augmentation, rows: int, slots: int) -> Begin:
    """Make batches where they are waited for; new memory for each would take as long as a third."""
    memory = np.empty((slots, rows, 3, *images.shape[1:3]), np.float32)
    places = cycle(memory)

    def make(batch: Float32, number: int, first: int, index: Sequence[int]) -> Float32:
        how.fill(batch, images, number, first, index)
        return batch

    return lambda number, first, index: partial(make, next(places), number, first, index)


class Workers:
    """Processes that make batches together; a context that ends them.

    Attributes:
        pids: of the processes.

    Args:
        count: of processes.
        size: height and width of a picture.
        stored: see `maker`.
        how: see `maker`.
        rows: see `maker`.
        slots: see `maker`.

    Raises:
        PlatformError: where they cannot be started.
    """

    def __init__(
        self,
        count: int,
        size: tuple[int, ...],
        stored: Path,
        how: Augmentation,
        rows: int,
        slots: int,
    ) -> None:
        self._rows, self._slots, self._begun = rows, slots, 0
        self._cuts = [rows * number // count for number in range(count + 1)]
        self._processes: list[subprocess.Popen[str]] = []
        with ExitStack() as failed:
            failed.callback(self.close)
            try:
                # Not in /dev/shm, which containers keep at 64 MB: about a batch of 256x128.
                memory = os.memfd_create("skyreid-batches")
                failed.callback(os.close, memory)
                shape = (slots, rows, 3, *size)
                self._memory = _mapped(memory, shape, grow=True)
                told = {
                    "memory": memory,
                    "shape": shape,
                    "stored": str(stored.absolute()),
                    "how": how.model_dump(mode="json"),
                }
                for _ in range(count):
                    self._processes.append(_started(memory))
                    self._tell(self._processes[-1], told)
            except (OSError, AttributeError) as error:  # memfd is Linux's
                raise PlatformError(
                    f"workers that augment pictures cannot be started: {reason(error)}; "
                    "give --workers 0"
                ) from error
            failed.pop_all()
        os.close(memory)
        self.pids = [process.pid for process in self._processes]

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, number: int, first: int, index: Sequence[int]) -> Callable[[], Float32]:
        """See `Begin`; what it gives is written over from `slots` calls later on.

        Raises:
            SkyreidError: when a worker has ended; who waits learns it too, and also that the
                pictures could not be read.
        """
        if len(index) != self._rows:
            raise ValueError(f"{len(index)} rows, and the workers make {self._rows}")
        slot = self._begun % self._slots
        self._begun += 1
        parts = list(zip(self._processes, self._cuts, self._cuts[1:], strict=False))
        for process, begin, end in parts:
            job = {"slot": slot, "row": begin, "number": number, "first": first + begin}
            self._tell(process, {**job, "index": list(index[begin:end])})
        return partial(self._end, slot)

    def _end(self, slot: int) -> Float32:
        for process in self._processes:
            self._hear(process)
        made: Float32 = self._memory[slot]
        return made

    def close(self) -> None:
        """End them; harmless where they have ended."""
        for process in self._processes:
            with suppress(BrokenPipeError):
                _pipe(process.stdin).close()
        for process in self._processes:
            try:
                process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            _pipe(process.stdout).close()

    def _tell(self, process: subprocess.Popen[str], what: dict[str, Any]) -> None:
        try:
            _pipe(process.stdin).write(json.dumps(what) + "\n")
            _pipe(process.stdin).flush()
        except BrokenPipeError:
            raise _ended(process) from None

    def _hear(self, process: subprocess.Popen[str]) -> None:
        answer = _pipe(process.stdout).readline()
        if not answer:
            raise _ended(process)
        if error := json.loads(answer)["error"]:
            raise SkyreidError(f"a worker cannot augment pictures: {error}")


def _started(memory: int) -> subprocess.Popen[str]:
    """A worker: out of the terminal's reach, whose Ctrl-C is for who asks it."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(memory,),
        start_new_session=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            # glibc gives every picture's memory back, and takes 184 page faults to have it again:
            # as long as the rest.
            "MALLOC_MMAP_THRESHOLD_": str(1 << 25),
            "MALLOC_TRIM_THRESHOLD_": str(1 << 26),
        },
    )


def _ended(process: subprocess.Popen[str]) -> SkyreidError:
    """What is to say of a worker that does not answer any more."""
    code = process.wait(PATIENCE_S)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    hint = " (9 is often a machine out of memory)" if code == -9 else ""
    return SkyreidError(
        f"worker {process.pid}, which augments pictures, {how}{hint}; give the same command again "
        "to go on behind the last state, with fewer --workers if it happens again"
    )


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


def _mapped(memory: int, shape: Sequence[int], *, grow: bool = False) -> Float32:
    """The batches in a file of memory, float32 [slots, rows, 3, H, W]."""
    length = int(np.prod(shape)) * np.dtype(np.float32).itemsize
    if grow:
        os.ftruncate(memory, length)
    return np.frombuffer(mmap.mmap(memory, length), np.float32).reshape(shape)


def _work() -> None:
    """A worker's life: a line that says what of, then a line for each part of a batch."""
    import cv2

    cv2.setNumThreads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may stand among the answers
    told = json.loads(sys.stdin.readline() or "null")
    if told is None:
        return
    batches = _mapped(told["memory"], told["shape"])
    images: UInt8 | None = None
    for line in sys.stdin:
        error = ""
        try:
            job = json.loads(line)
            if images is None:
                images = np.load(told["stored"], mmap_mode="r")
                how = Augmentation.model_validate(told["how"])
            rows = batches[job["slot"], job["row"] : job["row"] + len(job["index"])]
            how.fill(rows, images, job["number"], job["first"], job["index"])
        except Exception as found:  # whatever it is, who asked has to hear of it
            error = f"{type(found).__name__}: {found}"
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # who asked has gone
        _work()
