"""The verbs around signatures, from making a key to a device that asks for one."""

import json
import shutil
from pathlib import Path

import pytest

from skyreid.bundle.detector import open_detector
from skyreid.bundle.signature import trusted
from skyreid.contract import files
from skyreid.contract.errors import BundleError, InputError
from skyreid.export import signing
from skyreid.export.__main__ import main


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    private, public = str(tmp_path / "release.key"), str(tmp_path / "release.pub")
    assert main(["keys", private, public]) == 0
    assert "keep" in capsys.readouterr().out
    return private, public


def test_half_a_pair_of_keys_is_not_left_on_a_full_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise InputError(f"cannot write {path}: No space left on device; nothing was changed")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", full)
        assert main(["keys", str(tmp_path / "private"), str(tmp_path / "public")]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["keys", str(tmp_path / "private"), str(tmp_path / "public")]) == 0
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_cannot_be_written_keeps_the_signature_it_had(
    detector_bundle: Path,
    keys: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = Path(shutil.copytree(detector_bundle, tmp_path / "bundle"))
    assert main(["sign", str(bundle), "--key", keys[0]]) == 0
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}

    def full(*_: object) -> None:
        raise InputError("cannot write: No space left on device; nothing was changed")

    monkeypatch.setattr(signing, "replace_file", full)
    assert main(["sign", str(bundle), "--key", keys[0], "--bundle-version", "7"]) == 2
    assert before == {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}


def test_a_bundle_is_signed_and_a_device_that_asks_for_it_runs_it(
    detector_bundle: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    private, public = keys
    with pytest.raises(BundleError, match="not signed"):
        open_detector(detector_bundle, trust=trusted([Path(public)]))
    try:
        assert main(["sign", str(detector_bundle), "--key", private]) == 0
        said = capsys.readouterr().out
        check = ["verify-signature", str(detector_bundle), "--key", public, "--json"]
        assert main(check) == 0
        facts = json.loads(capsys.readouterr().out)
        assert facts["signed_by"] in said
        open_detector(detector_bundle, trust=trusted([Path(public)]))
    finally:
        (detector_bundle / "SHA256SUMS.sig").unlink()  # others use this bundle too


def test_a_bundle_of_somebody_else_is_refused_in_one_line(
    embedder_bundle: Path, keys: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-signature", str(embedder_bundle), "--key", keys[1]]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "not signed" in said


def test_another_projects_detector_is_signed_as_ours_is(
    yolox_bundle: Path, keys: tuple[str, str], tmp_path: Path
) -> None:
    private, public = keys
    bundle = tmp_path / "yolox"
    shutil.copytree(yolox_bundle, bundle)
    assert main(["sign", str(bundle), "--key", private]) == 0
    open_detector(bundle, trust=trusted([Path(public)]))


@pytest.mark.parametrize(
    "verb", [("inspect",), ("bench", "--batch", "1", "--rounds", "1"), ("compile", "--cache", "c")]
)
def test_a_verb_that_is_told_whom_to_trust_opens_nobody_elses_bundle(
    embedder_bundle: Path,
    keys: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    verb: tuple[str, ...],
) -> None:
    settings = tmp_path / "edge.toml"
    settings.write_text('[trust]\nrequire_signature = true\nkeys = ["release.pub"]\n')
    command = [verb[0], str(embedder_bundle), *verb[1:]]
    assert main([*command, "--trust", str(settings)]) == 2
    assert "is not signed and trust.require_signature is set" in capsys.readouterr().err
    settings.write_text("[trust]\nmin_version = 3\n")
    assert main([*command, "--trust", str(settings)]) == 2
    assert "min_version proves nothing of unsigned bundles" in capsys.readouterr().err


def test_sign_counts_up_and_inspect_says_the_version(
    embedder_bundle: Path,
    keys: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle = Path(shutil.copytree(embedder_bundle, tmp_path / "copy"))
    command = ["sign", str(bundle), "--key", keys[0], "--bundle-version", "7"]
    assert main(command) == 0
    assert main(command) == 0  # again, as it is
    settings = tmp_path / "edge.toml"
    trust = '[trust]\nrequire_signature = true\nkeys = ["release.pub"]\nmin_version = 7\n'
    settings.write_text(trust)
    capsys.readouterr()
    assert main(["inspect", str(bundle), "--trust", str(settings), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["version"] == 7
    settings.write_text(trust.replace("7", "8"))
    assert main(["inspect", str(bundle), "--trust", str(settings)]) == 2
    assert main([*command[:-1], "-1"]) == 2
