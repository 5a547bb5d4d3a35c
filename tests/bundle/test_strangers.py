"""What a stranger can make of a bundle is refused, by a line of its own, before it is used."""

import io
import json
import os
import shutil
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from skyreid.bundle.archive import SUMS, Bundle, _sums, open_bundle
from skyreid.bundle.arrays import read_arrays
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.external_data import require_own_data
from skyreid.bundle.signature import ANYONE, SIGNATURE, Trust, trusted
from skyreid.contract.errors import BundleError, InputError
from skyreid.contract.sighting import View
from skyreid.export import signing
from skyreid.export.signing import make_keys, sign

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")


@pytest.fixture
def public(bundle: Bundle, tmp_path: Path) -> Path:
    """The bundle is signed; the key to check it with."""
    make_keys(tmp_path / "release.key", tmp_path / "release.pub")
    sign(bundle.path, tmp_path / "release.key")
    return tmp_path / "release.pub"


def changed(bundle: Bundle, **files: bytes) -> Path:
    """The bundle with other files, and sums that fit."""
    content = {**bundle.files, **{name.replace("__", "/"): data for name, data in files.items()}}
    for name, data in content.items():
        (bundle.path / name).write_bytes(data)
    (bundle.path / SUMS).write_bytes(_sums(content))
    return bundle.path


def manifest(bundle: Bundle, **values: object) -> Path:
    facts = {**json.loads(bundle.files["manifest.json"]), **values}
    return changed(bundle, **{"manifest.json": json.dumps(facts).encode()})


def zipped(bundle: Bundle, *more: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    path = bundle.path.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in bundle.path.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(bundle.path))
        for name, data in more:
            archive.writestr(name, data)
    return path


def linked_entry() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("notes.json")
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda b: (b.path / "extra").symlink_to("/etc/passwd"), "extra is a symbolic link"),
        (lambda b: (b.path / "loop").symlink_to(b.path), "loop is a symbolic link"),
        (lambda b: (b.path / "k").symlink_to("/proc/kmsg"), "k is a symbolic link"),
        (lambda b: os.mkfifo(b.path / "pipe"), "pipe is no file"),
        (lambda b: (b.path / "golden" / "README.md").write_text("x"), "README.md is not listed"),
        (lambda b: (b.path / "golden" / "more").mkdir(), "golden/more is no file"),
        (lambda b: (b.path / ("x" * 101)).write_text("x"), "is no name of a bundle's file"),
        (lambda b: (b.path / "a\nb").write_text("x"), "is no name of a bundle's file"),
        (
            lambda b: [(b.path / f"{n}.json").write_text("x") for n in range(70)],
            "holds more than 64 files",
        ),
        (lambda b: b.path.chmod(0o777), "everybody may write it: chmod o-w"),
        (
            lambda b: (b.path / "manifest.json").chmod(0o666),
            r"manifest.json: everybody may write it: chmod o-w",
        ),
        (lambda b: (b.path / "golden").chmod(0o777), "golden: everybody may write it"),
        (
            lambda b: (b.path / SUMS).write_bytes(b.sums + b.sums.splitlines(True)[0]),
            "has two lines for golden/outputs.npz",
        ),
        (lambda b: (b.path / SUMS).write_bytes(b"0" * 70_000), f"{SUMS} has 70000 bytes, at most"),
        (
            lambda b: (b.path / SIGNATURE).write_bytes(b"0" * 20_000_000),
            f"{SIGNATURE} has 20000000 bytes, at most 1024 are read",
        ),
        (lambda b: manifest(b, embedding_dim=7), "model_key is .* make"),
        (lambda b: manifest(b, model_key=""), "model_key is '', checkpoint, input and"),
        (lambda b: manifest(b, model_key="a/b #+"), r"model_key is 'a/b #\+'"),
        (lambda b: manifest(b, formats=["fp32", "fp32"]), "formats name one twice"),
        (lambda b: manifest(b, kind="detector"), "a detector has its spec"),
        (
            lambda b: manifest(b, input={"height": 0, "width": 0}),
            "an embedder has an input of a size",
        ),
        (
            lambda b: manifest(b, input={"height": 10**9, "width": 10**9}),
            "an input of 1000000000 x 1000000000 pixels is none",
        ),
    ],
)
def test_a_directory_that_no_release_wrote_is_refused(
    bundle: Bundle, make: Callable[[Bundle], object], said: str
) -> None:
    make(bundle)
    with pytest.raises(BundleError, match=said):
        open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("manifest.json", b"{}", "manifest.json is in it twice"),
        ("../evil", b"x", "is no name of a bundle's file"),
        ("/etc/evil", b"x", "is no name of a bundle's file"),
        (linked_entry(), b"/etc/passwd", "notes.json is a symbolic link"),
        ("zeros.json", bytes(50 << 20), "zeros.json inflates from .* that is no model"),
    ],
)
def test_a_zip_that_no_release_wrote_is_refused(
    bundle: Bundle, name: str | zipfile.ZipInfo, data: bytes, said: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own: it writes a name twice
        path = zipped(bundle, (name, data))
    with pytest.raises(BundleError, match=said):
        open_bundle(path)


def test_a_zip_bomb_is_refused_before_anything_of_it_is_inflated(
    bundle: Bundle, public: Path
) -> None:
    path = zipped(bundle, ("bomb.json", np.random.default_rng(0).bytes(30 << 20)))
    tracemalloc.start()
    try:
        for trust in (trusted([public]), ANYONE):
            with pytest.raises(BundleError, match=r"bomb\.json is not listed"):
                open_bundle(path, trust)
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_a_bundle_that_is_not_signed_as_asked_is_refused_before_more_than_its_sums_is_read(
    bundle: Bundle, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.path / SIGNATURE).unlink()
    read: list[str] = []
    real = os.open

    def opening(path: Path, *rest: int) -> int:
        read.append(Path(path).name)
        return real(path, *rest)

    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(BundleError, match="is not signed"):
        open_bundle(bundle.path, trusted([public]))
    assert read == [SUMS]


@needs_root
def test_a_directory_of_another_user_or_group_is_refused_unless_its_signature_was_checked(
    bundle: Bundle, public: Path
) -> None:
    os.chown(bundle.path, 65534, 65534)
    with pytest.raises(BundleError, match="it belongs to user 65534: chown it, or have it signed"):
        open_bundle(bundle.path)
    assert open_bundle(bundle.path, trusted([public])).signed_by
    os.chown(bundle.path, 0, 65534)
    assert open_bundle(bundle.path).path == bundle.path  # the group may only read
    bundle.path.chmod(0o775)
    with pytest.raises(BundleError, match="group 65534 may write it: chmod g-w"):
        open_bundle(bundle.path)


def external(field: str, location: str) -> bytes:
    model = onnx.ModelProto()
    node = model.graph.node.add()
    held = {
        "initializer": model.graph.initializer,
        "attribute": node.attribute.add().tensors,
        "in a graph of a node": node.attribute.add().g.initializer,
        "in a function": model.functions.add().node.add().attribute.add().tensors,
    }
    tensor = held[field].add()
    tensor.name, tensor.data_location = "w", onnx.TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return model.SerializeToString()


@pytest.mark.parametrize("location", ["secret.bin", "golden/pictures.npz", "/etc/passwd"])
@pytest.mark.parametrize(
    "field", ["initializer", "attribute", "in a graph of a node", "in a function"]
)
def test_weights_in_another_file_are_refused(bundle: Bundle, field: str, location: str) -> None:
    path = changed(bundle, **{"model.fp32.onnx": external(field, location)})
    with pytest.raises(BundleError, match=r"weights 'w' lie in another file \(external data\)"):
        open_bundle(path)


def test_weights_in_another_file_hide_behind_nothing(bundle: Bundle) -> None:
    """Protobuf reads on over what it does not know; whatever we cannot follow is refused."""
    group = bytes([100 << 3 & 0x7F | 3 | 0x80, 6, 100 << 3 & 0x7F | 4 | 0x80, 6])
    with pytest.raises(BundleError, match=r"no ONNX model \(wire type 3"):
        require_own_data(group + external("initializer", "secret.bin"), "it")
    nested = external("initializer", "secret.bin")
    for _ in range(300):
        attribute = b"\x32" + varint(len(nested)) + nested  # a graph in an attribute in a node
        node = b"\x2a" + varint(len(attribute)) + attribute
        nested = b"\x0a" + varint(len(node)) + node
    with pytest.raises(BundleError, match="nested too deeply"):
        require_own_data(b"\x3a" + varint(len(nested)) + nested, "it")
    require_own_data(bundle.model("fp32"), "it")


def varint(value: int) -> bytes:
    return bytes(
        (value >> shift & 0x7F) | (0x80 if value >> shift > 0x7F else 0)
        for shift in range(0, 7 * max(1, -(-value.bit_length() // 7)), 7)
    )


def claiming(shape: tuple[int, ...]) -> bytes:
    """An npz whose array says that it is of this shape, and holds nothing."""
    header, out = io.BytesIO(), io.BytesIO()
    facts = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, facts)
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("pictures.npy", header.getvalue())
    return out.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize(
    ("file", "data", "said"),
    [
        ("pictures", claiming((10**6, 10**6, 3)), "header is not that of its content"),
        ("pictures", npz(pictures=np.array([{}], dtype=object)), "header is not that of its"),
        ("pictures", npz(pictures=np.zeros((8, 8, 4, 3))), r"no pictures uint8 \[N, 8, 4, 3\]"),
        ("pictures", npz(pictures=np.zeros((8, 9, 4, 3), "u1")), r"uint8 \[N, 8, 4, 3\]"),
        ("pictures", npz(pictures=np.zeros((8, 8, 4, 1), "u1")), r"uint8 \[N, 8, 4, 3\]"),
        ("outputs", npz(embedding=np.zeros((8, 4), "f4")), r"no embeddings \[8, 3\]"),
        ("outputs", npz(other=np.zeros((8, 3), "f4")), r"no embeddings \[8, 3\]"),
        ("outputs", npz(embedding=np.full((8, 3), np.nan, "f4")), "finite float32 each"),
        ("outputs", npz(embedding=np.ones((8, 3))), "finite float32 each"),
    ],
)
def test_golden_arrays_of_another_size_type_or_content_are_refused(
    bundle: Bundle, file: str, data: bytes, said: str
) -> None:
    path = changed(bundle, **{f"golden/{file}.npz": data})
    with pytest.raises(BundleError, match=said):
        Embedder([path], view=View.AERIAL)


def test_arrays_larger_than_they_may_be_are_refused_unread() -> None:
    data = bytearray(npz(pictures=np.zeros(8, np.uint8)))
    at = data.index(b"PK\x01\x02") + 24  # the uncompressed size in the directory of the zip
    data[at : at + 4] = struct.pack("<I", 0xF000_0000)
    with pytest.raises(BundleError, match="it is larger than 1073741824 bytes, inflated"):
        read_arrays(bytes(data), "it")


def test_a_bundle_that_is_swapped_while_it_is_signed_gets_no_signature_that_holds(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_keys(tmp_path / "k", tmp_path / "p")
    real = open_bundle

    def racing(path: Path) -> Bundle:
        verified = real(path)
        changed(bundle, **{"parity.json": b'{"evil": 1}'})
        return verified

    monkeypatch.setattr(signing, "open_bundle", racing)
    sign(bundle.path, tmp_path / "k")
    with pytest.raises(BundleError, match="is not of this SHA256SUMS"):
        open_bundle(bundle.path, trusted([tmp_path / "p"]))
    with pytest.raises(BundleError, match="changed by somebody else meanwhile"):
        racing_version(bundle, tmp_path, monkeypatch)


def racing_version(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def racing(whole: Bundle, name: str, data: bytes) -> Bundle:
        (bundle.path / SIGNATURE).unlink(missing_ok=True)
        return open_bundle(changed(bundle, **{"parity.json": b'{"evil": 2}'}))

    monkeypatch.setattr(signing, "replace_file", racing)
    sign(bundle.path, tmp_path / "k", version=3)


def test_a_revoked_key_and_a_revoked_bundle_are_refused(bundle: Bundle, public: Path) -> None:
    good = open_bundle(bundle.path, trusted([public]))
    assert good.signed_by
    for word, said in (
        (good.signed_by, "is signed by key .* which trust.revoked names"),
        (good.sha256, "is revoked: trust.revoked names"),
    ):
        trust = Trust(keys=(public,), require_signature=True, revoked=(word,))
        with pytest.raises(BundleError, match=said):
            open_bundle(bundle.path, trust)
    with pytest.raises(BundleError, match="is revoked"):  # also where nobody asks for signatures
        open_bundle(bundle.path, Trust(revoked=(good.sha256,)))
    with pytest.raises(ValueError, match="revoked"):
        Trust(revoked=("evil",))


def test_an_older_version_than_the_least_is_refused_however_well_it_is_signed(
    bundle: Bundle, public: Path, tmp_path: Path
) -> None:
    old = Path(shutil.copytree(bundle.path, tmp_path / "old"))
    sign(bundle.path, tmp_path / "release.key", version=20261129)
    trust = Trust(keys=(public,), require_signature=True, min_version=20261129)
    assert open_bundle(bundle.path, trust).manifest.version == 20261129
    with pytest.raises(BundleError, match=r"has version 0, trust\.min_version is 20261129"):
        open_bundle(old, trust)
    assert b"version" not in bundle.files["manifest.json"].replace(b"schema_version", b"")
    with pytest.raises(ValueError, match="set require_signature"):
        Trust(min_version=1)


def test_an_unsigned_bundle_beside_trusted_keys_is_said(
    bundle: Bundle, public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (bundle.path / SIGNATURE).unlink()
    open_bundle(bundle.path, Trust(keys=(public,)))
    assert "is not signed, and accepted though trust.keys names keys" in caplog.text
    with pytest.raises(InputError, match=r"trust\.keys is empty"):
        open_bundle(bundle.path, Trust(require_signature=True))
