"""A bundle on disk: an atomic write, all or nothing; verified before a byte of it is used.

::

    manifest.json  model.{fp32,fp16,int8}.onnx  golden/{pictures,outputs}.npz  parity.json
    model.int8-fp16.onnx, int8-ranges.json  with int8: the same for engines, and its ranges
    SHA256SUMS      one line a file: hex digest, two spaces, name
    SHA256SUMS.sig  optional, see signature.py

A zip of the directory is opened alike. Verification comes before parsing, and before anything else
is read or inflated: the signature first, then names and sizes, then the sums, then the manifest's
schema, then the model.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from skyreid.bundle import container
from skyreid.bundle.arrays import read_arrays
from skyreid.bundle.container import Container
from skyreid.bundle.external_data import require_own_data
from skyreid.bundle.manifest import SCHEMA, Manifest, NumericFormat
from skyreid.bundle.signature import ANYONE, SIGNATURE, Trust, check, require_version
from skyreid.contract.errors import BundleError
from skyreid.contract.files import new_folder, replacing

SUMS = "SHA256SUMS"
INT8_FOR_ENGINES = "model.int8-fp16.onnx"
FOR_DEEPSTREAM = "nvtracker_reid.yml"
"""Lies in a directory that was exported for DeepStream, which is no bundle."""
MAX_SUMS_BYTES = 64 << 10
MAX_SIGNATURE_BYTES = 1 << 10
MAX_JSON_BYTES = 16 << 20
MAX_BYTES = 4 << 30
"""Of all files of a bundle together; ONNX itself ends at 2 GiB a model."""
_SUM_LINE = re.compile(r"([0-9a-f]{64})  ([^\s].*)")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle: every listed file is in memory and has the digest that it should."""

    path: Path
    manifest: Manifest
    sha256: str
    """Digest of SHA256SUMS: names exactly these bytes."""
    files: Mapping[str, bytes]
    sums: bytes = b""
    """SHA256SUMS as it was verified: what a signature is made over."""
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
        size = self.manifest.input
        if (
            pictures is None
            or pictures.dtype != np.uint8
            or pictures.ndim != 4
            or pictures.shape[3] != 3
            or not pictures.size
            or (size.height and pictures.shape[1:3] != (size.height, size.width))
        ):
            sides = f"{size.height}, {size.width}" if size.height else "H, W"
            raise BundleError(
                f"bundle {self.path}: golden/pictures.npz holds no pictures uint8 [N, {sides}, 3]; "
                "export the model again"
            )
        lengths = {name: values.shape[:1] for name, values in outputs.items()}
        floats = all(v.dtype == np.float32 and np.isfinite(v).all() for v in outputs.values())
        if not outputs or set(lengths.values()) != {pictures.shape[:1]} or not floats:
            raise BundleError(
                f"bundle {self.path}: golden/outputs.npz holds no outputs of the {len(pictures)} "
                "golden pictures, finite float32 each; export the model again"
            )
        dim = self.manifest.embedding_dim
        if dim and outputs.get("embedding", pictures).shape != (len(pictures), dim):
            raise BundleError(
                f"bundle {self.path}: embedding_dim is {dim}, and golden/outputs.npz holds no "
                f"embeddings [{len(pictures)}, {dim}]; export the model again"
            )
        return pictures, outputs

    def parity(self) -> dict[str, Any]:
        """What was measured against the checkpoint.

        Raises:
            BundleError: there is none, or it is not a JSON object.
        """
        try:
            found = json.loads(self.files["parity.json"])
        except (KeyError, ValueError, RecursionError) as error:
            raise BundleError(f"bundle {self.path}: parity.json cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise BundleError(f"bundle {self.path}: parity.json is not a JSON object")
        return found

    def _arrays(self, name: str) -> dict[str, NDArray[Any]]:
        if name not in self.files:
            raise BundleError(f"bundle {self.path}: {name} is missing")
        return read_arrays(self.files[name], f"bundle {self.path}: {name}")


def open_bundle(path: Path, trust: Trust = ANYONE) -> Bundle:
    """Read and verify a bundle directory or zip.

    Args:
        path: of the bundle.
        trust: whose signatures are accepted, and whether one is required.

    Raises:
        BundleError: it is missing, its signature is not as `trust` asks, strangers may write it and
            no signature was checked, a file is missing, foreign or has another digest, the manifest
            is not one this version reads, or it is revoked.
    """
    with container.opened(path) as files:
        sums = _sums_of(path, files)
        signed_by = check(path, sums, _signature_of(path, files), trust)
        if signed_by is None and files.stranger:
            raise BundleError(
                f"bundle {path}: {files.stranger}, or have it signed and set "
                "trust.require_signature: what a stranger may change is not what was checked"
            )
        listed = _listed(path, sums)
        _require_names(path, listed, files.sizes)
        content = {name: _verified(path, files, name, listed[name]) for name in sorted(listed)}
    manifest = _manifest(path, content.get("manifest.json"))
    for numeric_format in manifest.formats:
        if f"model.{numeric_format}.onnx" not in content:
            raise BundleError(f"bundle {path}: model.{numeric_format}.onnx is missing")
    for name in content:
        if name.endswith(".onnx"):
            require_own_data(content[name], f"bundle {path}: {name}")
    require_version(path, manifest.version, trust)
    return Bundle(path, manifest, hashlib.sha256(sums).hexdigest(), content, sums, signed_by)


def _sums_of(path: Path, files: Container) -> bytes:
    if SUMS not in files.sizes and FOR_DEEPSTREAM in files.sizes:
        raise BundleError(
            f"{path} was exported for DeepStream and is not a bundle: export it with --io kit"
        )
    if SUMS not in files.sizes:
        raise BundleError(f"{path} is not a bundle: it has no {SUMS}")
    _require_size(path, SUMS, files.sizes[SUMS], MAX_SUMS_BYTES)
    return files.read(SUMS)


def _signature_of(path: Path, files: Container) -> bytes | None:
    if SIGNATURE not in files.sizes:
        return None
    _require_size(path, SIGNATURE, files.sizes[SIGNATURE], MAX_SIGNATURE_BYTES)
    return files.read(SIGNATURE)


def _listed(path: Path, sums: bytes) -> dict[str, str]:
    """Digest by name, of SHA256SUMS."""
    listed: dict[str, str] = {}
    for line in sums.decode("utf-8", "replace").removesuffix("\n").split("\n"):
        match = _SUM_LINE.fullmatch(line)
        if match is None:
            raise BundleError(f"bundle {path}: {SUMS} has a line that is not one: {line!r:.200}")
        if match[2] in listed:
            raise BundleError(f"bundle {path}: {SUMS} has two lines for {match[2]:.200}")
        listed[match[2]] = match[1]
    return listed


def _require_names(path: Path, listed: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    """The files are those that the sums list, and of sizes that a bundle's may have."""
    there = sizes.keys() - {SUMS, SIGNATURE}
    for name in sorted(listed.keys() | there):
        if name not in there:
            raise BundleError(f"bundle {path}: {name:.200} is listed in {SUMS} and missing")
        if name not in listed:
            raise BundleError(f"bundle {path}: {name} is not listed in {SUMS}")
        if name.endswith(".json"):
            _require_size(path, name, sizes[name], MAX_JSON_BYTES)
    _require_size(path, "all of it", sum(sizes.values()), MAX_BYTES)


def _require_size(path: Path, name: str, size: int, most: int) -> None:
    if size > most:
        raise BundleError(f"bundle {path}: {name} has {size} bytes, at most {most} are read")


def _verified(path: Path, files: Container, name: str, digest: str) -> bytes:
    data = files.read(name)
    if hashlib.sha256(data).hexdigest() != digest:
        raise BundleError(
            f"bundle {path}: {name} does not have the digest that {SUMS} says; "
            "it is damaged or was changed: get the bundle again"
        )
    return data


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

    Both are on the disk before either takes its place, so that a full disk changes nothing; between
    the two renames the bundle does not verify, so that one cut short is refused.

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
    with ExitStack() as stack:
        for target, content in reversed(changed):  # renamed from the last on
            stack.enter_context(replacing(bundle.path / target)).write_bytes(content)
    return open_bundle(bundle.path)


def _sums(files: Mapping[str, bytes]) -> bytes:
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in files.items()]
    return "".join(sorted(lines, key=lambda line: line[66:])).encode()


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
