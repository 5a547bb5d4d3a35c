"""A bundle is whole and verified, or it is refused with a line that says why."""

import hashlib
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fake_gpu import FakeTensorRT

from skyreid.bundle import compiled
from skyreid.bundle.archive import (
    INT8_FOR_ENGINES,
    SUMS,
    Bundle,
    open_bundle,
    replace_file,
    write_bundle,
)
from skyreid.bundle.engine import Profile
from skyreid.bundle.engine_cache import EngineKey
from skyreid.contract.errors import BundleError, GateError, InputError


def test_a_bundle_opens_and_says_what_it_is(bundle: Bundle) -> None:
    again = open_bundle(bundle.path)
    assert again.sha256 == bundle.sha256
    assert again.manifest == bundle.manifest
    pictures, outputs = again.golden()
    assert pictures.shape == (8, 8, 4, 3)
    assert outputs["embedding"].shape == (8, 3)


def test_a_zip_of_the_directory_is_the_same_bundle(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "README.md").write_text("what it is")
    for root, base in ((bundle.path, "."), (bundle.path.parent, bundle.path.name)):
        archive = shutil.make_archive(str(tmp_path / f"zip-{base}"), "zip", root, base)
        assert open_bundle(Path(archive)).sha256 == bundle.sha256


def test_the_same_content_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    pictures, outputs = bundle.golden()
    again = write_bundle(
        tmp_path / "again",
        bundle.manifest,
        {"fp32": bundle.model("fp32")},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity={"fp32": {"max_abs": 0.0}},
    )
    assert again.sha256 == bundle.sha256


def test_a_missing_and_a_foreign_file_are_named(bundle: Bundle) -> None:
    (bundle.path / "evil.so").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"evil\.so is not listed"):
        open_bundle(bundle.path)
    (bundle.path / "evil.so").unlink()
    (bundle.path / "parity.json").unlink()
    with pytest.raises(BundleError, match=r"parity\.json is listed in SHA256SUMS and missing"):
        open_bundle(bundle.path)


def test_what_is_not_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        open_bundle(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match=f"has no {SUMS}"):
        open_bundle(tmp_path / "empty")
    (tmp_path / "file").write_bytes(b"no zip")
    with pytest.raises(BundleError, match="neither a bundle directory nor a zip"):
        open_bundle(tmp_path / "file")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    with pytest.raises(BundleError, match=f"has no {SUMS}"):
        open_bundle(tmp_path / "empty.zip")


def test_a_manifest_of_another_schema_is_refused_before_the_model(
    bundle: Bundle, tmp_path: Path
) -> None:
    pictures, outputs = bundle.golden()
    manifest = bundle.manifest.model_copy(update={"schema_version": 99})
    with pytest.raises(BundleError, match="manifest schema 99, this version reads 1"):
        write_bundle(
            tmp_path / "later",
            manifest,
            {"fp32": b"not a model"},
            golden_pictures=pictures,
            golden_outputs=outputs,
            parity={},
        )


def test_a_bundle_is_not_written_over_another(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(
            bundle.path,
            bundle.manifest,
            {"fp32": b""},
            golden_pictures=np.zeros((1, 8, 4, 3), np.uint8),
            golden_outputs={},
            parity={},
        )


def test_a_failed_write_leaves_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"cannot write .*/room/new: No space left"):
        write_bundle(
            tmp_path / "room" / "new",
            bundle.manifest,
            {"fp32": b""},
            golden_pictures=np.zeros((1, 8, 4, 3), np.uint8),
            golden_outputs={},
            parity={},
        )
    assert list((tmp_path / "room").iterdir()) == []


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_disk_that_is_full_at_the_proof_or_at_the_sums_leaves_the_bundle_as_it_was(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """Once the proof was written and its sum was not: nobody could open the bundle any more."""
    real, written = Path.write_bytes, list[Path]()

    def nearly_full(self: Path, data: bytes) -> int:
        if data:
            written.append(self)
            if len(written) > fails_at:
                raise OSError(28, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", nearly_full)
    with pytest.raises(InputError, match="No space left on device; nothing was changed"):
        replace_file(bundle, "parity.json", b'{"new": 1}')
    assert open_bundle(bundle.path).sha256 == bundle.sha256
    assert not [path for path in bundle.path.iterdir() if path.name.startswith(".")]


def test_a_bundle_that_fails_its_last_check_is_never_there(bundle: Bundle, tmp_path: Path) -> None:
    pictures, outputs = bundle.golden()
    out, seen = tmp_path / "room" / "new", []

    def check(made: Bundle) -> None:
        seen.append((made.path, out.exists(), made.model("fp32") == bundle.model("fp32")))
        raise GateError("no")

    with pytest.raises(GateError, match="no"):
        write_bundle(
            out,
            bundle.manifest,
            {"fp32": bundle.model("fp32")},
            golden_pictures=pictures,
            golden_outputs=outputs,
            parity={},
            check=check,
        )
    assert seen == [(out, False, True)]
    assert list((tmp_path / "room").iterdir()) == []


def test_a_format_that_is_not_there_is_named(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no int8 model, it has: fp32"):
        bundle.model("int8")


def test_a_replaced_file_gets_its_sum_and_everything_else_stays(bundle: Bundle) -> None:
    again = replace_file(bundle, "parity.json", b'{"verified": true}')
    assert again.sha256 != bundle.sha256
    assert again.files["parity.json"] == b'{"verified": true}'
    assert {k: v for k, v in again.files.items() if k != "parity.json"} == {
        k: v for k, v in bundle.files.items() if k != "parity.json"
    }
    sums = (bundle.path / SUMS).read_text().splitlines()
    assert sums == sorted(sums, key=lambda line: line.split("  ")[1])
    assert replace_file(again, "parity.json", bundle.files["parity.json"]).sha256 == bundle.sha256


def test_a_replacement_cut_short_leaves_a_bundle_that_is_refused(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if target.name == SUMS:
            raise KeyboardInterrupt
        return real(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", replace)
        with pytest.raises(KeyboardInterrupt):
            replace_file(bundle, "parity.json", b'{"verified": true}')
    with pytest.raises(BundleError, match=r"SHA256SUMS"):
        open_bundle(bundle.path)


def test_a_zip_is_not_written_to(bundle: Bundle, tmp_path: Path) -> None:
    zipped = open_bundle(Path(shutil.make_archive(str(tmp_path / "z"), "zip", bundle.path)))
    with pytest.raises(BundleError, match="no directory"):
        replace_file(zipped, "parity.json", b"{}")


def test_engines_get_their_own_int8_and_cpus_theirs(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures, outputs = bundle.golden()
    producer = b"\x12\x03"  # the field of an ONNX model that says by whom, of three letters
    for_engines = bundle.model("fp32") + producer + b"gpu"
    for_cpus = bundle.model("fp32") + producer + b"cpu"
    both = write_bundle(
        tmp_path / "both",
        bundle.manifest.model_copy(update={"formats": ("fp32", "int8")}),
        {"fp32": bundle.model("fp32"), "int8": for_cpus},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity={},
        extra={INT8_FOR_ENGINES: for_engines},
    )
    built: list[str] = []

    def ensure(cache: Path, key: EngineKey, build: object, **rest: object) -> None:
        built.append(key.onnx_sha256)

    monkeypatch.setattr(compiled, "ensure", ensure)
    for numeric_format in ("fp32", "int8"):
        compiled.compile_bundle(
            both,
            numeric_format,
            Profile((1, 8, 4, 3), (1, 8, 4, 3), (1, 8, 4, 3)),
            tmp_path,
            api="tensorrt",
            trt=FakeTensorRT("10.3.0"),
            device="sm87",
        )
    digests = [hashlib.sha256(data).hexdigest() for data in (both.model("fp32"), for_engines)]
    assert built == digests
    assert both.model("int8") == for_cpus
