from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal

import pytest
import torch

from skyreid.contract.input_spec import InputSpec
from skyreid.export import golden, graph, trace
from skyreid.export.bundle import export_bundle
from skyreid.train import checkpoint
from skyreid.train.detector.model import INPUT_SPEC, DetectorConfig, PersonDetector
from skyreid.train.models.method import Method
from skyreid.train.models.variants import construct, variant

View = Literal["aerial", "ground"]
Exported = Callable[[str, View | None], bytes]

HEIGHT, WIDTH = 64, 32
TRUNK = {"dim": 48, "depth": 2, "heads": 3, "stride": 16}
OPTIONS = {"visa": {"experts": 2, "top_k": 1, "graph_top_k": 4}, "secap": {"prompts": 4}}


@pytest.fixture(scope="session")
def drawn() -> Callable[[str], Method]:
    """A method by name, small and with random weights."""

    def make(method: str) -> Method:
        torch.manual_seed(0)
        options = OPTIONS.get(method)
        config = variant(
            f"{method}-tiny", height=HEIGHT, width=WIDTH, people=2, trunk=TRUNK, options=options
        )
        return construct(config).eval()

    return make


@pytest.fixture(scope="session")
def exported(drawn: Callable[[str], Method]) -> Exported:
    """The fp32 graph of a small method for a view, as a bundle would hold it; each made once."""

    @cache
    def make(method: str, view: View | None) -> bytes:
        spec = InputSpec(height=HEIGHT, width=WIDTH)
        served = checkpoint.Embedder(drawn(method).serving(view), spec)
        module = served.eval().requires_grad_(False)
        traced = trace.Traced("embedder", module, spec, {}, "0" * 64, 0, 0)
        simple = graph.simplify(trace.export(traced, golden.draw(spec)[:2]))
        graph.check(simple)
        return simple

    return make


@pytest.fixture(scope="session")
def detector_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny detector with random weights and statistics."""
    torch.manual_seed(0)
    config = DetectorConfig(stem=4, quarter=4, eighth=8, sixteenth=8, dilations=(2,))
    model = PersonDetector(config)
    model.train()(torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8))
    with torch.no_grad():  # fresh weights answer .01 everywhere: make them differ
        model.head.weight[0] *= 200
        model.head.bias[0] = 0
    path = tmp_path_factory.mktemp("detector") / "detector.safetensors"
    checkpoint.save(
        path,
        kind="detector",
        config={**config.to_mapping(), "score_min": 0.34},
        state=model.state_dict(),
        input_spec=INPUT_SPEC,
    )
    return path


@pytest.fixture(scope="session")
def embedder_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VDT with random weights for pictures of 32 x 16."""
    torch.manual_seed(0)
    trunk = dict(stem="conv", stride=16, dim=24, depth=2, heads=3, height=32, width=16)
    config = {"variant": "test", "method": "vdt", "trunk": trunk, "people": 4}
    path = tmp_path_factory.mktemp("embedder") / "embedder.safetensors"
    checkpoint.save(
        path,
        kind="embedder",
        config=config,
        state=construct(config).state_dict(),
        input_spec=InputSpec(height=32, width=16),
    )
    return path


@pytest.fixture(scope="session")
def detector_bundle(detector_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "detector"
    export_bundle(detector_checkpoint, out, view="any", name="tiny detector", batch_max=4)
    return out


@pytest.fixture(scope="session")
def embedder_bundle(embedder_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "embedder"
    export_bundle(embedder_checkpoint, out, view="ground", name="tiny embedder")
    return out
