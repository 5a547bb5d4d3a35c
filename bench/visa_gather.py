"""ViSA's experts as exported (all run, the choice is a weight) against a gather of the chosen.

    python bench/visa_gather.py [--dim 768] [--batches 1,2,8] [--rounds 9]

One branch of ViSA, eight experts of which a picture gets two, in ONNX Runtime on one thread. The
two graphs must agree before they are timed; they take turns, and a row is the median of the rounds'
ratios of CPU time.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.export.graph import simplify
from skyreid.train.models.experts import Expert, Router, ServingExpert, ServingExperts
from skyreid.train.models.two_way import attend

EXPERTS, CHOSEN, PROMPTS, PATCHES, HEADS, TOLERANCE = 8, 2, 16, 210, 12, 1e-4


class Gathered(nn.Module):
    """The same, reading the weights of the chosen experts alone, a copy for each picture."""

    def __init__(self, served: ServingExperts) -> None:
        super().__init__()
        self.router = served.router
        experts = [e for e in served.experts if isinstance(e, ServingExpert)]
        self.heads, self.eps = experts[0].heads, experts[0].eps

        def keep(name: str, parts: list[Tensor]) -> None:
            self.register_buffer(name, torch.stack([part.detach() for part in parts]))

        for name in ("prompt", "asked", "asked_offset"):
            keep(name, [getattr(e, name).reshape(-1, getattr(e, name).shape[-1]) for e in experts])
        for name in ("shift", "proj"):
            layers = [getattr(e, name) for e in experts]
            keep(f"{name}_w", [layer.weight.T for layer in layers])
            keep(f"{name}_b", [layer.bias[None] for layer in layers])
        for name in ("fc1", "fc2"):
            keep(f"{name}_w", [getattr(e.mlp, name).weight.T for e in experts])
            keep(f"{name}_b", [getattr(e.mlp, name).bias[None] for e in experts])
        for name in ("norm1", "norm2", "norm3"):
            keep(f"{name}_w", [getattr(e, name).weight[None] for e in experts])
            keep(f"{name}_b", [getattr(e, name).bias[None] for e in experts])
        self.norm_eps = [getattr(experts[0], n).eps for n in ("norm1", "norm2", "norm3")]

    def forward(self, feature: Tensor, patches: Tensor) -> Tensor:
        """A feature [B, D] to tokens [B, M, D]."""
        values, chosen = self.router.gate(feature).topk(self.router.top_k, dim=1)
        batch, dim = feature.shape
        flat = chosen.flatten()  # [B K]
        own = feature[:, None].expand(-1, self.router.top_k, -1).reshape(-1, 1, dim)

        def linear(tokens: Tensor, name: str) -> Tensor:
            weight, bias = getattr(self, f"{name}_w")[flat], getattr(self, f"{name}_b")[flat]
            return tokens @ weight + bias

        def norm(tokens: Tensor, index: int) -> Tensor:
            name, eps = f"norm{index + 1}", self.norm_eps[index]
            normed = F.layer_norm(tokens, (dim,), eps=eps)
            return normed * getattr(self, f"{name}_w")[flat] + getattr(self, f"{name}_b")[flat]

        shift, asked = linear(own, "shift").split([dim, 3 * dim], -1)
        moved = self.prompt[flat] + shift
        gain = torch.rsqrt(moved.square().mean(-1, keepdim=True) + self.eps)
        asking = (self.asked[flat] + asked) * gain + self.asked_offset[flat]
        mixed = attend(*asking.chunk(3, -1), self.heads)
        tokens = norm(norm(moved, 0) + linear(mixed, "proj"), 1)
        tokens = norm(tokens + linear(F.gelu(linear(tokens, "fc1")), "fc2"), 2)
        weights = values.softmax(1).reshape(-1, 1, 1)
        return (weights * tokens).reshape(batch, -1, *tokens.shape[1:]).sum(1)


def session(module: nn.Module, dim: int) -> onnxruntime.InferenceSession:
    """The module in ONNX Runtime, one thread."""
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (torch.randn(2, dim), torch.randn(2, PATCHES, dim)),
            dynamo=True,
            opset_version=20,
            input_names=["feature", "patches"],
            dynamic_shapes=({0: batch}, {0: batch}),
            external_data=False,
            verbose=False,
        )
    assert program is not None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        simplify(program.model_proto.SerializeToString()),
        options,
        providers=["CPUExecutionProvider"],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--batches", default="1,2,8")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    torch.manual_seed(0)
    experts = nn.ModuleList(
        Expert(options.dim, HEADS, prompt_length=PROMPTS, mlp_ratio=2.0, source="vector")
        for _ in range(EXPERTS)
    )
    served = ServingExperts(experts, Router(options.dim, EXPERTS, CHOSEN)).eval()
    every, gathered = (session(module, options.dim) for module in (served, Gathered(served)))
    for batch in map(int, options.batches.split(",")):
        rng = np.random.default_rng(batch)
        inputs = {
            "feature": rng.normal(size=(batch, options.dim)).astype(np.float32),
            "patches": np.zeros((batch, PATCHES, options.dim), np.float32),  # read by neither
        }
        one, two = (s.run(None, inputs)[0] for s in (every, gathered))
        apart = float(np.abs(one - two).max())
        if not apart <= TOLERANCE:
            raise SystemExit(f"the two forms differ by {apart:.1e}")
        rows = []
        for _ in range(options.rounds):
            times = []
            for each in (every, gathered):
                began = time.process_time()
                each.run(None, inputs)
                times.append(1000 * (time.process_time() - began))
            rows.append(times)
        medians = np.median(np.asarray(rows), axis=0)
        row = {
            "dim": options.dim,
            "batch": batch,
            "all_ms": round(float(medians[0]), 2),
            "gathered_ms": round(float(medians[1]), 2),
            "all_over_gathered": round(float(np.median([a / b for a, b in rows])), 2),
            "differ_by": apart,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
