from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from skyreid.bundle import processor
from skyreid.bundle.archive import open_bundle
from skyreid.bundle.runner import self_test, start

KINDS = {"detector": "detector", "vdt-tiny": "embedder"}


@pytest.mark.parametrize("name", sorted(KINDS))
def test_a_committed_bundle_verifies_and_computes_what_it_says(repository: Path, name: str) -> None:
    bundle = open_bundle(repository / "examples" / "bundle" / name)
    assert bundle.manifest.kind == KINDS[name]
    assert bundle.manifest.licence == "Apache-2.0"
    assert sum(len(data) for data in bundle.files.values()) < 15e6
    with start(bundle) as runner:
        exact = "fp32" in bundle.manifest.formats  # the golden outputs are of fp32
        assert min(self_test(bundle, runner).values()) > (0.9999 if exact else 0.998)


def test_int8_is_the_same_on_every_cpu(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With VNNI or without: the kernels give what Q and DQ computed in floats give."""
    bundle = open_bundle(repository / "examples" / "bundle" / "vdt-tiny")
    pictures, _ = bundle.golden()
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    in_floats = onnxruntime.InferenceSession(
        bundle.model("int8"), options, providers=["CPUExecutionProvider"]
    )
    (wanted,) = in_floats.run(None, {in_floats.get_inputs()[0].name: pictures})
    with start(bundle) as runner:
        found = runner.run(pictures)["embedding"]
    assert (found * wanted).sum(1).min() > 0.9999
    monkeypatch.setattr(processor, "flags", frozenset)  # as where nothing is known of the CPU
    with start(bundle) as runner:
        np.testing.assert_array_equal(runner.run(pictures)["embedding"], found)


def test_every_committed_bundle_is_listed_here(repository: Path) -> None:
    found = {path.parent.name for path in (repository / "examples/bundle").glob("*/manifest.json")}
    assert found == KINDS.keys()
