"""The verbs around signatures, from making a key to a device that asks for one."""

import json
import shutil
from pathlib import Path

import pytest

from skyreid.bundle.detector import open_detector
from skyreid.bundle.signature import trusted
from skyreid.contract.errors import BundleError
from skyreid.export.__main__ import main


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    private, public = str(tmp_path / "release.key"), str(tmp_path / "release.pub")
    assert main(["keys", private, public]) == 0
    assert "keep" in capsys.readouterr().out
    return private, public


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
