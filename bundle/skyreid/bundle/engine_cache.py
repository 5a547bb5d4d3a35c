"""Compiled engines on this device: what is not exactly right is built again, never loaded.

Beside each plan lies a JSON with its key and its digest. It guards against a stale, foreign or
damaged plan. It is no signature: who may write the directory may write both files, hence one that
anybody else may write, or rename, is refused; and a file that is somebody else's is built again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from skyreid.bundle.engine import Built
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.ownership import strange_parent, stranger
from skyreid.contract import files
from skyreid.contract.errors import InputError, reason

_SCHEMA = 1
_MEANING = {
    "api": "it was built by",
    "version": "it was built by TensorRT",
    "device": "it was built for",
    "onnx_sha256": "it was built from the model",
    "numeric_format": "it was built in",
    "profile": "it was built for the shapes",
}


@dataclass(frozen=True)
class EngineKey:
    """What a plan must agree in with this device and this model."""

    api: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    version: str
    """Of TensorRT, whole: a plan fits no other."""
    device: str
    """``sm87-orin``: compute capability and model; ``no-gpu`` where the build had none."""
    onnx_sha256: str
    numeric_format: NumericFormat
    profile: str

    def stem(self) -> str:
        """The file name without its ending: model, format, and a digest of the whole key."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        return f"{self.onnx_sha256[:16]}-{self.numeric_format}-{digest}"


@dataclass(frozen=True)
class Engine:
    """A plan that may be loaded here."""

    plan: bytes
    path: Path
    rebuilt_because: str
    """Empty where the cached plan was used."""


def cached(directory: Path, key: EngineKey) -> tuple[bytes | None, str]:
    """The cached plan of `key`, or None and why there is none that may be loaded."""
    plan_path = directory / f"{key.stem()}.plan"
    record_path = directory / f"{key.stem()}.json"
    if not plan_path.exists():
        return None, _nearest(directory, key)
    if not record_path.exists():
        return None, f"{plan_path.name} has no record beside it"
    for path in (plan_path, record_path):
        if said := _strange(path, directory):
            return None, f"{path.name} may be anybody's: {said}"
    try:
        record: Any = json.loads(record_path.read_bytes())
        schema, found = record["schema_version"], record["key"]
        size, digest = int(record["plan_bytes"]), str(record["plan_sha256"])
        differs = _difference(found, key)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None, f"{record_path.name} is damaged"
    if schema != _SCHEMA:
        return None, f"{record_path.name} has schema {schema!r}, this version reads {_SCHEMA}"
    if differs:
        return None, f"{plan_path.name} is foreign: {differs}"
    plan = plan_path.read_bytes()
    if len(plan) != size:
        return None, f"{plan_path.name} is truncated or grown: {len(plan)} of {size} bytes"
    if hashlib.sha256(plan).hexdigest() != digest:
        return None, f"{plan_path.name} was changed: its digest is not the recorded one"
    return plan, ""


def ensure(
    directory: Path,
    key: EngineKey,
    build: Callable[[bytes], Built],
    say: Callable[[str], None] = lambda line: None,
) -> Engine:
    """The cached plan of `key`, or a new one.

    Args:
        directory: of the cache; made where it is missing, for its owner only.
        key: what the plan must agree in.
        build: is given the timing cache of this device (may be empty).
        say: is told why one is built, before it is, and when another process builds one here.

    Raises:
        InputError: the directory cannot be written, or somebody else may write or rename it.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        said = stranger(directory.stat(), own_groups=False)
        if said or (above := strange_parent(directory)):
            raise InputError(
                f"engine cache {directory}: {f'{said} {directory}' if said else above}; a plan is "
                "code, and nobody else may write it"
            )
        plan_path = directory / f"{key.stem()}.plan"
        plan, why = cached(directory, key)
        if plan is not None:
            return Engine(plan, plan_path, "")
        # One build at a time: two would share a board's memory, and its timings would be wrong.
        with files.FileLock(
            directory / "building.lock",
            of=f"engine cache {directory}",
            waiting=lambda who: say(f"{who} builds an engine here: wait for it"),
        ):
            plan, why = cached(directory, key)  # another may have built it in the meantime
            if plan is not None:
                return Engine(plan, plan_path, "")
            say(why)
            built = _build(directory, key, plan_path, build)
    except OSError as error:
        raise InputError(
            f"engine cache {directory} cannot be used: {reason(error, directory)}"
        ) from error
    return Engine(built.plan, plan_path, why)


def _build(
    directory: Path, key: EngineKey, plan_path: Path, build: Callable[[bytes], Built]
) -> Built:
    timings = directory / f"{key.api}-{key.version}-{key.device}.timings"
    built = build(timings.read_bytes() if timings.exists() else b"")
    record = {
        "schema_version": _SCHEMA,
        "key": asdict(key),
        "plan_bytes": len(built.plan),
        "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
    }
    # The record last: a power cut between the two leaves a plan that the old record refuses.
    files.write(plan_path, built.plan)
    files.write(plan_path.with_suffix(".json"), json.dumps(record, indent=1).encode())
    for path in (plan_path, plan_path.with_suffix(".json")):
        path.chmod(0o600)
    if built.timing_cache:
        files.write(timings, built.timing_cache)
    return built


def _strange(path: Path, directory: Path) -> str:
    """Why a file may hold what somebody else wrote; empty where it cannot."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        return "it is no file"
    if found.st_uid != os.geteuid():
        return f"it belongs to user {found.st_uid}"
    closed = not directory.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH)
    return "" if closed else stranger(found, own_groups=False)


def discard(engine: Engine) -> None:
    """Make the cache forget a plan that has the right key and yet cannot be loaded."""
    engine.path.with_suffix(".json").unlink(missing_ok=True)


def _difference(found: dict[str, Any], key: EngineKey) -> str:
    for name, wanted in asdict(key).items():
        if found[name] != wanted:
            return f"{_MEANING[name]} {found[name]}, needed is {wanted}"
    return ""


def _nearest(directory: Path, key: EngineKey) -> str:
    """Why no plan has this key, told by a neighbour of the same model where there is one."""
    for path in sorted(directory.glob(f"{key.onnx_sha256[:16]}-*.json")):
        try:
            differs = _difference(json.loads(path.read_bytes())["key"], key)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue  # its own key's load says that it is damaged
        if differs:
            return f"no engine yet; {path.stem}: {differs}"
    return "no engine yet"
