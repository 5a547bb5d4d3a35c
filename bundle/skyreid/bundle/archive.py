"""A bundle on disk: an atomic write, all or nothing; verified before a byte of it is used.

::

    manifest.json  model.{fp32,fp16,int8}.onnx  golden/{pictures,outputs}.npz  parity.json
    model.int8-fp16.onnx, int8-ranges.json  with int8: the same for engines, and its ranges
    SHA256SUMS      one line a file: hex digest, two spaces, name
    SHA256SUMS.sig  optional, see signature.py

A zip of the directory is opened alike. Verification comes before parsing: the signature first, then
the sums, then the manifest's schema, then the model.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from skyreid.bundle.manifest import SCHEMA, Manifest, NumericFormat
from skyreid.bundle.signature import ANYONE, SIGNATURE, Trust, check
from skyreid.contract.errors import BundleError
from skyreid.contract.files import new_folder, write

SUMS = "SHA256SUMS"
EXPLANATION = "README.md"
"""May lie in a bundle, for people, and is no part of it."""
INT8_FOR_ENGINES = "model.int8-fp16.onnx"
FOR_DEEPSTREAM = "nvtracker_reid.yml"
"""Lies in a directory that was exported for DeepStream, which is no bundle."""
_NO_ZIP = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
"""What zipfile raises for bytes that are none, or a damaged one: it has no class for it."""
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^\s].*)")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: every listed file is in memory and has the digest that it should."""

    path: Path
    manifest: Manifest
    sha256: str
    """Digest of SHA256SUMS: names exactly these bytes."""
    files: Mapping[str, bytes]
    signed_by: str | None = None
    """Id of the trusted key whose signature was checked; None where none was."""

    def model(self, numeric_format: NumericFormat) -> bytes:
        """The ONNX model in one numeric format.

        Raises:
            BundleError: the bundle does not have it.
        """
        if numeric_format not in self.manifest.formats:
            raise BundleError(
                f"bundle {self.path} has no {numeric_format} model, "
                f"it has: {', '.join(self.manifest.formats)}"
            )
        return self.files[f"model.{numeric_format}.onnx"]

    def engine_model(self, numeric_format: NumericFormat) -> bytes:
        """What an engine is built of: `model`, or int8 with float16 around its Linears.

        A CPU runs the rest of an int8 model in float32, for it has no kernels in float16; a GPU
        runs it in float16, and the types of an engine are those of its graph.

        Raises:
            BundleError: the bundle does not have the format.
        """
        own = self.model(numeric_format)
        return self.files.get(INT8_FOR_ENGINES, own) if numeric_format == "int8" else own

    def golden(self) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.float32]]]:
        """Golden pictures uint8 [N, H, W, 3] and the fp32 outputs [N, ...] by name.

        Raises:
            BundleError: they cannot be read, or there is nothing to hold a model against.
        """
        pictures = self._arrays("golden/pictures.npz").get("pictures")
        outputs = self._arrays("golden/outputs.npz")
        if (
            pictures is None
            or pictures.dtype != np.uint8
            or pictures.ndim != 4
            or not pictures.size
        ):
            raise BundleError(
                f"bundle {self.path}: golden/pictures.npz holds no pictures uint8 [N, H, W, 3]; "
                "export the model again"
            )
        lengths = {name: values.shape[:1] for name, values in outputs.items()}
        if not outputs or set(lengths.values()) != {pictures.shape[:1]}:
            raise BundleError(
                f"bundle {self.path}: golden/outputs.npz holds no outputs of the {len(pictures)} "
                "golden pictures; export the model again"
            )
        return pictures, outputs

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        try:
            with np.load(io.BytesIO(self.files[name]), allow_pickle=False) as data:
                return {key: data[key] for key in data.files}
        except KeyError as error:
            raise BundleError(f"bundle {self.path}: {name} is missing") from error
        except (*_NO_ZIP, AttributeError, TypeError) as error:  # the last two: an array alone
            raise BundleError(f"bundle {self.path}: {name} is no npz: {error}") from error


def open_bundle(path: Path, trust: Trust = ANYONE) -> Bundle:
    """Read and verify a bundle directory or zip.

    Args:
        path: of the bundle.
        trust: whose signatures are accepted, and whether one is required.

    Raises:
        BundleError: it is missing, its signature is not as `trust` asks, a file is missing, foreign
            or has another digest, or the manifest is not one this version reads.
    """
    files = _read(path)
    if SUMS not in files and FOR_DEEPSTREAM in files:
        raise BundleError(
            f"{path} was exported for DeepStream and is not a bundle: export it with --io kit"
        )
    if SUMS not in files:
        raise BundleError(f"{path} is not a bundle: it has no {SUMS}")
    sums = files.pop(SUMS)
    signed_by = check(path, sums, files.pop(SIGNATURE, None), trust)
    listed: dict[str, str] = {}
    for line in sums.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"bundle {path}: {SUMS} has a line that is not one: {line!r}")
        listed[match[2]] = match[1]
    for name in sorted(listed.keys() | files.keys()):
        if name not in files:
            raise BundleError(f"bundle {path}: {name} is listed in {SUMS} and missing")
        if name not in listed:
            raise BundleError(f"bundle {path}: {name} is not listed in {SUMS}")
        if hashlib.sha256(files[name]).hexdigest() != listed[name]:
            raise BundleError(
                f"bundle {path}: {name} does not have the digest that {SUMS} says; "
                "it is damaged or was changed: get the bundle again"
            )
    manifest = _manifest(path, files.get("manifest.json"))
    for numeric_format in manifest.formats:
        if f"model.{numeric_format}.onnx" not in files:
            raise BundleError(f"bundle {path}: model.{numeric_format}.onnx is missing")
    return Bundle(path, manifest, hashlib.sha256(sums).hexdigest(), files, signed_by)


def write_bundle(
    path: Path,
    manifest: Manifest,
    models: Mapping[NumericFormat, bytes],
    *,
    golden_pictures: NDArray[np.uint8],
    golden_outputs: Mapping[str, NDArray[np.float32]],
    parity: Mapping[str, object],
    extra: Mapping[str, bytes] | None = None,
    check: Callable[[Bundle], object] = lambda bundle: None,
) -> Bundle:
    """Write a bundle directory, whole or not at all, and open it again.

    Args:
        path: the directory to make; it must not exist.
        manifest: its ``formats`` must be the keys of ``models``.
        models: ONNX bytes per numeric format.
        golden_pictures: uint8 [N, H, W, 3].
        golden_outputs: float32 [N, ...] per output name, from the fp32 model.
        parity: what was measured against the checkpoint.
        extra: further files by name.
        check: is given the bundle before it is there; what it raises leaves nothing at `path`.

    Raises:
        BundleError: ``path`` exists, or manifest and models disagree.
        InputError: ``path`` cannot be written.
    """
    if path.exists():
        raise BundleError(f"{path} exists already: remove it, or write to another directory")
    if set(manifest.formats) != set(models):
        raise BundleError(f"manifest lists {manifest.formats}, models are {sorted(models)}")
    files: dict[str, bytes] = {
        "manifest.json": (manifest.model_dump_json(indent=1) + "\n").encode(),
        "parity.json": (json.dumps(parity, indent=1, sort_keys=True) + "\n").encode(),
        "golden/pictures.npz": _npz({"pictures": golden_pictures}),
        "golden/outputs.npz": _npz(golden_outputs),
        **{f"model.{name}.onnx": data for name, data in models.items()},
        **(extra or {}),
    }
    sums = _sums(files)
    with new_folder(path) as draft:
        for name, data in {**files, SUMS: sums}.items():
            target = draft / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(data)
        check(replace(open_bundle(draft), path=path))
    return open_bundle(path)


def replace_file(bundle: Bundle, name: str, data: bytes) -> Bundle:
    """Put one file's new content into a bundle directory, and its new sum; open it again.

    Between the two writes the bundle does not verify, so that one cut short is refused.

    Raises:
        BundleError: the bundle is a zip, or is signed: its signature is of the old sums.
        InputError: the file cannot be written.
    """
    if not bundle.path.is_dir():
        raise BundleError(f"{bundle.path} is no directory: unpack a bundle to change it")
    if (bundle.path / SIGNATURE).exists():
        raise BundleError(
            f"bundle {bundle.path} is signed, and a new {name} needs a new signature: remove "
            f"{SIGNATURE}, and sign the bundle again afterwards"
        )
    changed = (name, data), (SUMS, _sums({**bundle.files, name: data}))
    for target, content in changed:
        write(bundle.path / target, content)
    return open_bundle(bundle.path)


def _sums(files: Mapping[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return "".join(sorted(lines, key=lambda line: line[66:])).encode()


def _read(path: Path) -> dict[str, bytes]:
    """Every file of a bundle by its posix name."""
    if path.is_dir():
        return {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != EXPLANATION
        }
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                n
                for n in archive.namelist()
                if not n.endswith("/") and PurePosixPath(n).name != EXPLANATION
            ]
            prefix = _common_directory(names)
            return {n[len(prefix) :]: archive.read(n) for n in names}
    except FileNotFoundError as error:
        raise BundleError(f"bundle {path} does not exist") from error
    except _NO_ZIP as error:
        raise BundleError(
            f"{path} is neither a bundle directory nor a zip of one that is whole: {error}"
        ) from error


def _common_directory(names: list[str]) -> str:
    roots = {PurePosixPath(name).parts[0] for name in names}
    if len(roots) == 1 and all("/" in name for name in names):
        return f"{roots.pop()}/"
    return ""


def _manifest(path: Path, data: bytes | None) -> Manifest:
    if data is None:
        raise BundleError(f"bundle {path}: manifest.json is missing")
    try:
        schema = json.loads(data).get("schema_version")
        if schema != SCHEMA:
            raise BundleError(
                f"bundle {path}: manifest schema {schema!r}, this version reads {SCHEMA}; "
                "export the model again or update skyreid"
            )
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise BundleError(f"bundle {path}: manifest.json: {wrong}") from error
    except (ValueError, AttributeError, RecursionError) as error:
        raise BundleError(f"bundle {path}: manifest.json is not a JSON object") from error


def _npz(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    """A compressed npz with fixed time stamps, so that the same arrays give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in sorted(arrays.items()):
            data = io.BytesIO()
            np.lib.format.write_array(data, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data.getvalue(), zipfile.ZIP_DEFLATED)
    return out.getvalue()
