"""What the board is: JetPack, TensorRT, GPU, memory and power mode, each read on its own.

Every function says what it found and whether that will do; what is not there is a line that says
so, and no error. Paths and commands can be given, so that recorded text can be read.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from skyreid.bundle.cuda import describe_device
from skyreid.bundle.engine import Api, load_api
from skyreid.contract.errors import PlatformError

Reading = tuple[bool, str]
"""Whether it will do, and what was found."""

TENSORRT_MIN = (10, 3)
"""Of JetPack 6.1: the oldest that builds strongly typed networks of this project's graphs."""

BUILD_MIN_MIB = 2048
"""Below it a build is likely to be killed; the workspace alone is 1024 MiB."""

# Jetson Linux to JetPack. The release file does not say which of the later ones it is.
_JETPACKS = {
    (35,): "5",
    (36, 2): "6.0 DP",
    (36, 3): "6.0",
    (36, 4): "6.1 or 6.2",
    (36, 5): "6.2",
    (38,): "7.0 or 7.1",
    (39,): "7.2",
}
_OLDEST = (36, 4)


def jetpack(release: Path = Path("/etc/nv_tegra_release")) -> Reading:
    """Jetson Linux as its release file says it, and the JetPack that it belongs to."""
    try:
        text = release.read_text()
    except OSError:
        return False, f"{release}: not found, so this is no Jetson"
    match = re.search(r"R(\d+).*?REVISION:\s*(\d+)(?:\.(\d+))?", text)
    if match is None:
        return False, f"{release}: not understood: {' '.join(text.split())[:80]}"
    major, minor = int(match[1]), int(match[2])
    linux = f"Jetson Linux {major}.{minor}" + (f".{match[3]}" if match[3] else "")
    known = _JETPACKS.get((major, minor)) or _JETPACKS.get((major,))
    if (major, minor) < _OLDEST:
        name = f" (JetPack {known})" if known else ""
        return False, f"{linux}{name}: too old, its TensorRT is; update to JetPack 6.1 or later"
    return True, f"{linux} (JetPack {known})" if known else f"{linux}, newer than this list"


def tensorrt(load: Callable[[], tuple[Api, Any]] = load_api) -> Reading:
    """TensorRT's version, and whether it is new enough."""
    try:
        api, module = load()
    except PlatformError as error:
        return False, f"not found: {error}"
    version = str(module.__version__)
    if api == "tensorrt_rtx":
        return True, f"TensorRT-RTX {version}"
    if tuple(int(part) for part in re.findall(r"\d+", version)[:2]) < TENSORRT_MIN:
        return False, f"TensorRT {version}: at least 10.3 is needed, which JetPack 6.1 has"
    return True, f"TensorRT {version}"


def gpu(describe: Callable[[], str] = describe_device) -> Reading:
    """The GPU's name, compute capability and memory, as pycuda reads them."""
    try:
        return True, describe()
    except PlatformError as error:
        return False, f"not found: {error}"


def memory(meminfo: Path = Path("/proc/meminfo")) -> Reading:
    """Memory of the machine, which on a Jetson is the GPU's too, in MiB."""
    try:
        text = meminfo.read_text()
    except OSError:
        return False, f"{meminfo}: not found"
    found = {name: int(kib) // 1024 for name, kib in re.findall(r"(\w+):\s+(\d+) kB", text)}
    if not {"MemTotal", "MemAvailable"} <= found.keys():
        return False, f"{meminfo}: not understood"
    available, swap = found["MemAvailable"], found.get("SwapFree", 0)
    words = f"{found['MemTotal']} MiB, {available} available, {swap} of swap free"
    if available + swap < BUILD_MIN_MIB:
        return False, f"{words}: building an engine wants {BUILD_MIN_MIB}; stop others or add swap"
    return True, words


def power_mode(command: Sequence[str] = ("nvpmodel", "-q")) -> Reading:
    """The power mode of a Jetson; speeds mean nothing without it."""
    said = " ".join(command)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except FileNotFoundError:
        return False, f"{command[0]}: not found"
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, f"{said}: {error}"
    match = re.search(r"NV Power Mode:\s*(\S[^\n]*)\n\s*(\d+)", done.stdout)
    if match is None:
        words = " ".join((done.stdout + done.stderr).split())[:120]
        return False, f"{said}: exit {done.returncode}, not understood: {words}"
    return True, f"{match[1].strip()} (mode {match[2]})"
