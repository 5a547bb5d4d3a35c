"""The error tree and how a command ends.

::

    SkyreidError                 exit 1   something failed
    ├── InputError               exit 2   a file, argument or picture that cannot be used
    │   ├── SettingsError        exit 2   a settings file, environment variable or option
    │   ├── BundleError          exit 2   a bundle that is damaged, foreign or does not fit
    │   └── MessageError         exit 2   bytes from the wire that are not a valid message
    ├── GateError                exit 3   a measured gate was not passed
    └── PlatformError            exit 4   a missing plugin, driver or library

Every message names the thing, its value and what to do, in one line.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable


class SkyreidError(Exception):
    """Base of everything skyreid raises on purpose."""

    exit_code = 1


class InputError(SkyreidError):
    """A file, argument or picture that cannot be used."""

    exit_code = 2


class SettingsError(InputError):
    """A settings file, environment variable or command line option that cannot be used."""


class BundleError(InputError):
    """A bundle that is damaged, foreign or does not fit its use."""


class MessageError(InputError):
    """Bytes from the wire that are not a valid message.

    Attributes:
        reason: a short stable word for counters and the ``rejected/{reason}`` topic.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason


class GateError(SkyreidError):
    """A measured gate (parity, accuracy, speed) was not passed."""

    exit_code = 3


class PlatformError(SkyreidError):
    """Something the machine lacks: a plugin, a driver, a library."""

    exit_code = 4


def reason(error: Exception, path: str | os.PathLike[str] | None = None) -> str:
    """What went wrong, for a line that has named ``path``: without its number and that name again.

    Where an OSError is about another file, as one of a folder's, that is named.
    """
    if isinstance(error, KeyError):
        return f"it has no {error}"
    if not isinstance(error, OSError) or not error.strerror:
        return str(error) or type(error).__name__
    other = error.filename if path is None or error.filename != os.fspath(path) else None
    return error.strerror if other is None else f"{other}: {error.strerror}"


_PACKAGES = {
    "cv2": "opencv-python-headless",
    "gi": "'PyGObject<3.51'",
    "paho": "paho-mqtt",
    "av": "av",
    "prometheus_client": "prometheus-client",
}
"""What brings a module, where it is called otherwise."""


def run_command(command: Callable[[], int]) -> int:
    """Run a command line's body and turn a SkyreidError into one line on stderr and its exit code.

    So it does with a library that an extra would have brought: every command names it, exit 4.
    ``SKYREID_TRACEBACK=1`` lets the exception through, for whoever debugs skyreid itself.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may hold bytes that are no UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        return command()
    except SkyreidError as error:
        if os.environ.get("SKYREID_TRACEBACK") == "1":
            raise
        kind = type(error).__name__.removesuffix("Error").lower()
        line = " ".join(str(error).split())
        sys.stderr.write(f"error ({'failed' if kind == 'skyreid' else kind}): {line}\n")
        return error.exit_code
    except ModuleNotFoundError as error:
        module = (error.name or "").split(".")[0]
        if module == "skyreid" or os.environ.get("SKYREID_TRACEBACK") == "1":
            raise
        package = _PACKAGES.get(module, module)
        sys.stderr.write(
            f"error (platform): python module {module} is not installed: pip install {package}, or "
            "the extra of this command (README.md has the install lines)\n"
        )
        return PlatformError.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error of ours. Point stdout at
        # nothing, or the interpreter complains while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
