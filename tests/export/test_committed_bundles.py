from pathlib import Path

import pytest

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
        # The golden outputs are of fp32. How near int8 comes depends on the CPU: above .998 with
        # VNNI, .9971 on one with AVX2 only, whose products of bytes are added up in 16 bits.
        exact = "fp32" in bundle.manifest.formats
        assert min(self_test(bundle, runner).values()) > (0.9999 if exact else 0.996)


def test_every_committed_bundle_is_listed_here(repository: Path) -> None:
    found = {path.parent.name for path in (repository / "examples/bundle").glob("*/manifest.json")}
    assert found == KINDS.keys()
