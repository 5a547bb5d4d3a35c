"""What the tests of several methods need."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

Naive = Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any], Sequence[int]], list[float]]


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
def naive_identity() -> Naive:
    """Cross-entropy behind a neck in training, and the soft-margin triplet before it, in loops."""

    def terms(
        features: np.ndarray[Any, Any], weight: np.ndarray[Any, Any], people: Sequence[int]
    ) -> list[float]:
        mean, var = features.mean(0), features.var(0)
        entropies, triplets = [], []
        for i, row in enumerate(features):
            logits = weight @ ((row - mean) / np.sqrt(var + 1e-5))
            entropies.append(-np.log(np.exp(logits[people[i]]) / np.exp(logits).sum()))
            apart = [float(np.sqrt(max(((row - r) ** 2).sum(), 1e-12))) for r in features]
            hardest = max(d for j, d in enumerate(apart) if people[j] == people[i])
            nearest = min(d for j, d in enumerate(apart) if people[j] != people[i])
            triplets.append(np.log1p(np.exp(hardest - nearest)))
        return [float(np.mean(entropies)), float(np.mean(triplets))]

    return terms
