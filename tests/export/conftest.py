from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
import torch

from skyreid.contract.input_spec import InputSpec
from skyreid.export import golden, graph, trace
from skyreid.export.bundle import RangePictures, export_bundle
from skyreid.train import checkpoint
from skyreid.train.models.heatmap import INPUT_SPEC, DetectorConfig, PersonDetector
from skyreid.train.models.method import Method
from skyreid.train.models.variants import construct, variant
from skyreid.train.serving import Embedder

View = Literal["aerial", "ground"]
Exported = Callable[[str, View | None], bytes]

HEIGHT, WIDTH = 64, 32
TRUNK = {"dim": 48, "depth": 2, "heads": 3, "stride": 16}
OPTIONS = {"visa": {"experts": 2, "top_k": 1, "graph_top_k": 4}, "secap": {"prompts": 4}}


@pytest.fixture(scope="session")
def small() -> Callable[[str], dict[str, Any]]:
    """The configuration of a method by name, small."""

    def make(method: str) -> dict[str, Any]:
        options = OPTIONS.get(method)
        return variant(
            f"{method}-tiny", height=HEIGHT, width=WIDTH, people=2, trunk=TRUNK, options=options
        )

    return make


@pytest.fixture(scope="session")
def drawn(small: Callable[[str], dict[str, Any]]) -> Callable[[str], Method]:
    """The same with random weights."""

    def make(method: str) -> Method:
        torch.manual_seed(0)
        return construct(small(method)).eval()

    return make


@pytest.fixture(scope="session")
def exported(drawn: Callable[[str], Method]) -> Exported:
    """The fp32 graph of a small method for a view, as a bundle would hold it; each made once."""

    @cache
    def make(method: str, view: View | None) -> bytes:
        spec = InputSpec(height=HEIGHT, width=WIDTH)
        served = Embedder(drawn(method).serving(view), spec)
        module = served.eval().requires_grad_(False)
        traced = trace.Traced("embedder", module, spec, {}, "0" * 64)
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
        config={"trunk": config.model_dump(mode="json"), "score_min": 0.34},
        state=model.state_dict(),
        input_spec=INPUT_SPEC,
    )
    return path


@pytest.fixture(scope="session")
def embedder_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny VDT for pictures of 32 x 16, with weights that are random and large: with those of a
    fresh network all embeddings are alike, and int8 is refused as for a collapsed one."""
    torch.manual_seed(0)
    trunk = dict(stem="conv", stride=16, dim=24, depth=2, heads=3, height=32, width=16)
    config = {"variant": "test", "method": "vdt", "trunk": trunk, "people": 4}
    path = tmp_path_factory.mktemp("embedder") / "embedder.safetensors"
    network = construct(config)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim == 4:
                value.mul_(3)
            elif value.ndim == 2 and "blocks" in name:
                value.mul_(8)
    checkpoint.save(
        path,
        kind="embedder",
        config=config,
        state=network.state_dict(),
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


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CARGO-shaped data set: 8 people, two aerial and two ground cameras, 64 training crops."""
    root = tmp_path_factory.mktemp("tree")
    random = np.random.default_rng(0)
    for split, people, shots in (("train", range(8), 2), ("query", range(8, 16), 1)):
        for person in people:
            look = random.integers(0, 256, (4, 3, 3), np.uint8)
            for camera in (1, 2, 6, 7):
                for shot in range(shots):
                    _shoot(root / split, camera, person, shot, look, random)
                if split == "query":
                    for shot in (1, 2):
                        _shoot(root / "gallery", camera, person, shot, look, random)
    return root


def _shoot(
    folder: Path,
    camera: int,
    person: int,
    shot: int,
    look: np.ndarray,
    random: np.random.Generator,
) -> None:
    picture = cv2.resize(look, (20, 40), interpolation=cv2.INTER_CUBIC).astype(float)
    picture += random.normal(0, 12, picture.shape)
    (folder / f"Cam{camera}").mkdir(parents=True, exist_ok=True)
    path = folder / f"Cam{camera}" / f"Cam{camera}_day_{person:04d}_{shot}.jpg"
    assert cv2.imwrite(str(path), np.clip(picture, 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def all_formats(
    embedder_checkpoint: Path,
    embedder_bundle: Path,
    tree: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The tiny embedder for both views in every numeric format."""
    out = tmp_path_factory.mktemp("bundles") / "all"
    ready = (embedder_bundle / "model.fp32.onnx").read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace, "export", lambda traced, example: ready)  # the slow part
        export_bundle(
            embedder_checkpoint,
            out,
            view="any",
            name="tiny embedder",
            formats=("fp32", "fp16", "int8"),
            batch_max=4,
            range_pictures=RangePictures(tree / "train", count=32),
        )
    return out
