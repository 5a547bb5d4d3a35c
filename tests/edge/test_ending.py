"""A device ends when it is asked to, whatever hangs in it: real processes, real signals."""

import signal
import subprocess
import sys

import pytest

STUCK = """
import ctypes, sys, threading
from skyreid.edge.ending import stopped_by_signals
from skyreid.edge.flow import Stop

def in_c():
    # a lock taken twice: the thread is in C for good, and no signal gets it out
    lock = ctypes.create_string_buffer(64)
    mutex = ctypes.CDLL(None)
    mutex.pthread_mutex_lock(lock)
    print("stuck", flush=True)
    mutex.pthread_mutex_lock(lock)

stop = Stop()
with stopped_by_signals(stop, within_s=0.5):
    {what}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_whose_main_thread_hangs_in_c(
    number: int, environment: dict[str, str]
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK.format(what="in_c()")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "something hangs" in error


def test_a_signal_is_a_stop_and_nothing_else_where_nothing_hangs(
    environment: dict[str, str],
) -> None:
    what = 'print("stuck", flush=True); stop.asked.wait(); print(stop.hurry.is_set())'
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK.format(what=what)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stuck\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "False\n")
