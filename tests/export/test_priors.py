"""Score priors of a bundle that is there: measured anew, in colour, without, and across."""

import shutil
from pathlib import Path

import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.contract.errors import InputError
from skyreid.export.__main__ import main
from skyreid.export.priors import read


def test_a_bundle_gets_priors_of_colour_and_grey_and_is_still_whole(
    embedder_bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(embedder_bundle, tmp_path / "bundle")
    before = open_bundle(bundle)
    assert main(["priors", str(bundle), "--data", str(tree)]) == 0
    after = open_bundle(bundle)  # the sums hold
    said = capsys.readouterr().out.splitlines()
    pairs = {pair for pair in after.manifest.score_priors if "/" not in pair}
    assert pairs
    for pair in pairs:
        colour, mixed, grey = (
            after.manifest.score_priors[pair + of] for of in ("", "/colour-grey", "/grey-grey")
        )
        assert colour.pairs == grey.pairs
        assert mixed.pairs == 2 * colour.pairs  # either may be the one in colour
        assert any(line.startswith(f"{pair}/colour-grey: same ") for line in said)
    changed = {name for name in after.files if after.files[name] != before.files.get(name)}
    assert changed == {"manifest.json"}
    assert after.manifest.model_key == before.manifest.model_key


def test_a_signed_bundle_keeps_its_priors_and_its_signature(
    embedder_bundle: Path, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = shutil.copytree(embedder_bundle, tmp_path / "bundle")
    keys = str(tmp_path / "key"), str(tmp_path / "pub")
    assert main(["keys", *keys]) == 0
    assert main(["sign", str(bundle), "--key", keys[0]]) == 0
    before = open_bundle(bundle).files
    assert main(["priors", str(bundle), "--data", str(tree)]) != 0
    assert "sign the bundle again afterwards" in capsys.readouterr().err
    assert open_bundle(bundle).files == before


def test_a_detector_has_no_priors(
    detector_bundle: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["priors", str(detector_bundle), "--data", str(tree)]) != 0
    assert "is a detector: it has no score priors" in capsys.readouterr().err


def test_the_shipped_embedder_says_how_colour_and_grey_compare() -> None:
    folder = Path(__file__).parents[2] / "examples" / "bundle" / "vdt-tiny"
    priors = open_bundle(folder).manifest.score_priors
    for pair in ("aerial-aerial", "aerial-ground", "ground-ground"):
        colour, mixed, grey = (priors[pair + of] for of in ("", "/colour-grey", "/grey-grey"))
        apart = [(p.same_mean - p.different_mean) / p.same_std for p in (mixed, grey, colour)]
        assert apart == sorted(apart)  # what colours say is lost, and more of it across
        assert apart[0] > 2


def test_priors_that_are_none_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "priors.json"
    for text, said in (
        ('{"aerial-ground": {"same_mean": 0.5}}', r"aerial-ground\.same_std: Field required$"),
        ("[]", "it: Input should be"),
        ("x", "it: Invalid JSON"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=f"score priors {file}: {said}"):
            read(file)
    with pytest.raises(InputError, match=r"none\.json: No such file or directory$"):
        read(tmp_path / "none.json")
