"""What the tests of several methods need."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


@dataclass(frozen=True)
class Exported:
    """The ONNX graph of a form to serve."""

    served: nn.Module
    session: Any
    operators: set[str]

    def lacks(self, *prefixes: str) -> bool:
        """Whether no operator's name begins with one of these."""
        return not [op for op in self.operators if op.startswith(prefixes)]

    def agrees(self, *, rtol: float, atol: float) -> None:
        """Compare with torch on batches of 1 and 5."""
        for count in (1, 5):
            pictures = torch.randn(count, 3, 64, 32)
            (found,) = self.session.run(None, {"images": pictures.numpy()})
            expected: Tensor = self.served(pictures)
            np.testing.assert_allclose(found, expected.numpy(), rtol=rtol, atol=atol)


@pytest.fixture
def exported() -> Callable[[nn.Module], Exported]:
    """Exports a form to serve for pictures of 64 x 32."""

    def export(served: nn.Module) -> Exported:
        program = torch.onnx.export(
            served,
            (torch.randn(2, 3, 64, 32),),
            dynamo=True,
            opset_version=20,
            input_names=["images"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            external_data=False,
            verbose=False,
        )
        assert program is not None
        data = program.model_proto.SerializeToString()
        operators = {node.op_type for node in onnx.load(io.BytesIO(data)).graph.node}
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        return Exported(served, session, operators)

    return export


@pytest.fixture
def naive_terms() -> Callable[..., dict[str, float]]:
    """The terms of a method with a local feature and one of the view, in loops."""

    def terms(
        whole: NDArray[np.float64],
        view: NDArray[np.float64],
        local: NDArray[np.float64],
        weights: Mapping[str, NDArray[np.float64]],
        people: Sequence[int],
        views: Sequence[int],
    ) -> dict[str, float]:
        free = whole - view
        identity, triplet = _identity(free, weights["heads"], people)
        local_identity, local_triplet = _identity(local, weights["local_heads"], people)
        by_view, angles = [], []
        for i, row in enumerate(_behind_neck(view)):
            logits = weights["view_heads"] @ row
            by_view.append(-np.log(np.exp(logits[views[i]]) / np.exp(logits).sum()))
            lengths = np.linalg.norm(free[i]) * np.linalg.norm(view[i])
            angles.append(abs(free[i] @ view[i]) / lengths)
        return {
            "identity": identity,
            "triplet": triplet,
            "view": float(np.mean(by_view)),
            "orthogonality": float(np.mean(angles)),
            "local_identity": local_identity,
            "local_triplet": local_triplet,
        }

    return terms


def _behind_neck(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    normed: NDArray[np.float64] = (rows - rows.mean(0)) / np.sqrt(rows.var(0) + 1e-5)
    return normed


def _identity(
    features: NDArray[np.float64], weight: NDArray[np.float64], people: Sequence[int]
) -> tuple[float, float]:
    """Cross-entropy behind a neck in training, and the soft-margin triplet before it."""
    entropies, triplets = [], []
    for i, normed in enumerate(_behind_neck(features)):
        logits, row = weight @ normed, features[i]
        entropies.append(-np.log(np.exp(logits[people[i]]) / np.exp(logits).sum()))
        apart = [float(np.sqrt(max(((row - r) ** 2).sum(), 1e-12))) for r in features]
        hardest = max(d for j, d in enumerate(apart) if people[j] == people[i])
        nearest = min(d for j, d in enumerate(apart) if people[j] != people[i])
        triplets.append(np.log1p(np.exp(hardest - nearest)))
    return float(np.mean(entropies)), float(np.mean(triplets))
