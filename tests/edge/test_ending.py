"""A device ends when it is asked to, whatever hangs in it: real processes, real signals."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from skyreid.edge.delivery.spool import Spool

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


def test_a_signal_ends_a_device_whose_model_never_comes_back(
    models: Path, tmp_path: Path, environment: dict[str, str], needs_gst: None
) -> None:
    """ONNX Runtime counts, for ever, in the main thread: no handler of Python's runs meanwhile."""
    (tmp_path / "site.toml").write_text('id = "square"\n[[camera]]\nid = "cam1"\nview = "aerial"\n')
    settings = tmp_path / "edge.toml"
    settings.write_text(
        'site = "site.toml"\n[device]\nid = "dev1"\n'
        '[camera]\nid = "cam1"\nsource = "test://64x64@5"\n'
        f'[detector]\nmodel = "{models}/hangs"\n[embedder]\nbundles = ["{models}/tiny"]\n'
        '[spool]\npath = "spool.db"\n'
        '[mqtt]\nurl = "mqtt://127.0.0.1:9"\nstop_timeout_s = 0.5\n'
    )
    device = subprocess.Popen(
        [sys.executable, "-m", "skyreid.edge", "run", str(settings)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert device.stderr is not None
    log = ""
    while "state=streaming" not in log:
        line = device.stderr.readline()
        assert line, log
        log += line
    time.sleep(0.5)  # into the network
    device.send_signal(signal.SIGTERM)
    _, rest = device.communicate(timeout=60)
    assert device.returncode == 1, log + rest
    assert "something hangs: not ended 2.4 s after the signal" in rest
    with Spool(tmp_path / "spool.db") as spool:  # whole: nothing holds it any more
        assert spool.count() == 0
