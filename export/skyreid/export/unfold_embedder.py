"""From an embedder's bundle back to a checkpoint that training can start from.

For VDT and the plain trunk, which are served as the trunk with one gain and offset a channel. As
`unfold` does for a detector, batch norms get the statistics of pictures, and the gain and offset
that undo them. What no graph holds is new: the classifiers, and which part of a leading token was
its position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from skyreid.bundle.archive import Bundle
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import start
from skyreid.contract.errors import GateError, InputError
from skyreid.contract.input_spec import InputSpec, fit
from skyreid.train import checkpoint
from skyreid.train.data import catalogue
from skyreid.train.data.catalogue import NOTHING, Told
from skyreid.train.data.pictures import read_rgb
from skyreid.train.models.method import Method
from skyreid.train.models.variants import WIDTHS, construct
from skyreid.train.models.vdt import Vdt
from skyreid.train.models.vit import Vit
from skyreid.train.serving import build

FEWEST, MOST = 32, 512
"""Pictures whose statistics the batch norms get."""
LARGEST = 1e-4
"""Of 1 - cosine between what the bundle and the checkpoint answer; float16 makes a fiftieth."""
_AT_ONCE = 64

Floats = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
_NONE: Floats = np.zeros((1, 0, 0), np.float32)


def unfold(bundle: Bundle, data: Sequence[Path], out: Path, told: Told = NOTHING) -> float:
    """Write the network of an embedder's bundle as a checkpoint.

    Args:
        bundle: with a float model.
        data: sets of people, as `skyreid-train fit` takes, whose training pictures give the batch
            norms their statistics.
        out: the checkpoint, `.safetensors`.
        told: of the data sets, see `catalogue.open`.

    Returns:
        The largest 1 - cosine to the bundle's own answers, see `LARGEST`.

    Raises:
        InputError: it is of another method, has no float model, or `data` is of no use.
        GateError: the difference is too large; nothing is written.
    """
    spec, source = bundle.manifest.input, _float_of(bundle)
    pictures = _pictures(data, spec, told)
    try:
        parts = _parts(onnx.load_from_string(bundle.model(source)).graph)
        config = {**_config(parts, spec), "unfolded_from": bundle.sha256}
        network = construct(config)
        state = _state(network, parts, pictures, spec)
        served = build(checkpoint.Checkpoint("embedder", config, state, spec, ""))
    except (KeyError, IndexError, ValueError, InputError) as error:
        raise InputError(
            f"{bundle.path}: its graph is not that of VDT or the plain trunk as this project "
            f"exports them ({error})"
        ) from error
    runner, worst = start(bundle, numeric_format=source), 0.0
    for some in _in_parts(pictures):
        with torch.inference_mode():
            ours = served(torch.from_numpy(some)).numpy()
        theirs = runner.run(some)["embedding"]
        worst = max(worst, float(1 - np.sum(ours * theirs, axis=1, dtype=np.float64).min()))
        if np.isnan(ours).any() or not worst <= LARGEST:
            raise GateError(f"{bundle.path}: unfolded, it answers otherwise by {worst:.1e}")
    checkpoint.save(out, kind="embedder", config=config, state=state, input_spec=spec)
    return worst


def _float_of(bundle: Bundle) -> NumericFormat:
    formats: tuple[NumericFormat, ...] = ("fp32", "fp16")
    for one in formats:
        if one in bundle.manifest.formats:
            return one
    raise InputError(f"{bundle.path} has no float model, whose weights could be taken")


def _pictures(data: Sequence[Path], spec: InputSpec, told: Told = NOTHING) -> UInt8:
    """Uint8 [N, H, W, 3] RGB, from all over the training splits."""
    records = [record for one in data for record in catalogue.open(one, told=told).train().records]
    if len(records) < FEWEST:
        raise InputError(
            f"{', '.join(map(str, data))}: {len(records)} pictures for the statistics of the batch "
            f"norms, at least {FEWEST} are needed"
        )
    places = np.linspace(0, len(records) - 1, min(MOST, len(records))).astype(int)
    return np.stack([fit(read_rgb(records[place].path), spec) for place in places])


def _in_parts(pictures: UInt8) -> Iterator[UInt8]:
    yield from (pictures[n : n + _AT_ONCE] for n in range(0, len(pictures), _AT_ONCE))


@dataclass
class _Parts:
    """What a graph is made of, in its order; an offset of nothing but zeros is left out of it.

    Attributes:
        kernels: of its convolutions, each with offset and stride.
        linears: weight [out, in] and bias.
        norms: gain and offset of the layer norms.
        neck: gain and offset.
        leading: [1, T, D], the leading tokens with their positions.
        positions: [1, P, D], of the patches.
        heads: of the attention.
    """

    kernels: list[tuple[Floats, Floats, tuple[int, int]]] = field(default_factory=list)
    linears: list[tuple[Floats, Floats]] = field(default_factory=list)
    norms: list[tuple[Floats, Floats]] = field(default_factory=list)
    neck: tuple[Floats, Floats] = (_NONE, _NONE)
    leading: Floats = field(default_factory=lambda: _NONE)
    positions: Floats = field(default_factory=lambda: _NONE)
    heads: int = 0


def _parts(graph: Any) -> _Parts:
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    added: dict[str, Floats] = {}  # a vector, to an output
    for node in graph.node:
        if node.op_type == "Add":
            for one, other in (node.input, reversed(node.input)):
                if constants.get(other, _NONE).ndim == 1:
                    added[one] = _single(constants[other])
    parts = _Parts()
    for node in graph.node:
        given: list[Any] = [constants.get(name) for name in node.input]
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        match node.op_type, given:
            case "Conv", [_, kernel, *offset] if kernel is not None:
                down, across = attributes["strides"]
                shift = offset[0] if offset else np.zeros(len(kernel))
                parts.kernels.append((_single(kernel), _single(shift), (down, across)))
            case "Gemm", [_, weight, bias] if weight is not None:
                turned = weight if attributes.get("transB") else weight.T
                parts.linears.append((_single(turned), _single(bias)))
            case "MatMul", [_, weight] if weight is not None:
                bias = added.get(node.output[0], np.zeros(weight.shape[1]))
                parts.linears.append((_single(weight.T), _single(bias)))
            case "LayerNormalization", [_, gain, offset]:
                parts.norms.append((_single(gain), _single(offset)))
            case "Expand", [tokens, _] if tokens is not None and tokens.ndim == 3:
                parts.leading = _single(tokens)
            case "Add", [None, places] if places is not None and places.ndim == 3:
                if len(places) == 1:  # else the offsets of the pixels' channels
                    parts.positions = _single(places)
            case "Mul", [None, gain] if gain is not None and gain.ndim == 1 and gain.size > 1:
                shift = added.get(node.output[0], np.zeros(gain.size))
                parts.neck = _single(gain), _single(shift)
            case "Reshape", [_, shape] if shape is not None and shape.size == 4 and not parts.heads:
                parts.heads = int(shape[2])
    return parts


def _single(value: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(value, np.float32)


def _config(parts: _Parts, spec: InputSpec) -> dict[str, Any]:
    """Of the network, by the shapes of what it is made of; it knows nobody."""
    kernel, _, stride = parts.kernels[0]
    stem = "patch" if len(parts.kernels) == 1 else "conv"
    if stem == "conv":
        whole = 2 ** sum(down == 2 for _, _, (down, _) in parts.kernels)
        stride = (whole, whole)
    dim, tokens = parts.leading.shape[2], parts.leading.shape[1]
    method = (Vdt if tokens == 2 else Vit).declaration.name
    width = next((name for name, of in WIDTHS.items() if of["dim"] == dim), "other")
    return {
        "variant": f"{method}-{width}",
        "method": method,
        "trunk": {
            "height": spec.height,
            "width": spec.width,
            "stem": stem,
            "patch": kernel.shape[2] if stem == "patch" else 16,
            "stride": stride,
            "dim": dim,
            "depth": len(parts.norms) // 2,
            "heads": parts.heads,
            "mlp_ratio": parts.linears[-1][0].shape[1] / dim,
            "drop_path": 0.0,
        },
        "options": {},
        "people": 1,
        "fitted": [],
        "held_out": [],
    }


def _state(network: Method, parts: _Parts, pictures: UInt8, spec: InputSpec) -> dict[str, Tensor]:
    """The state_dict of the network, whose batch norms have the statistics of `pictures`."""
    state = network.state_dict()

    def put(name: str, value: Floats) -> None:
        state[name] = torch.from_numpy(value.reshape(state[name].shape).copy())

    stem = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Conv2d)]
    norms = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)]
    for index, ((name, _), (kernel, offset, _)) in enumerate(zip(stem, parts.kernels, strict=True)):
        put(f"{name}.weight", kernel)
        if index < len(norms):  # all but the last convolution have one
            behind, module = norms[index]
            put(f"{behind}.weight", np.full_like(offset, (1 + module.eps) ** 0.5))
            put(f"{behind}.bias", offset)
        else:
            put(f"{name}.bias", offset)
    for kind, found in ((nn.Linear, _linears(parts)), (nn.LayerNorm, parts.norms)):
        names = [name for name, module in network.named_modules() if isinstance(module, kind)]
        for name, (weight, bias) in zip(names, found, strict=True):
            put(f"{name}.weight", weight)
            put(f"{name}.bias", bias)
    tokens = parts.leading.shape[1]
    put("backbone.cls_token", parts.leading[:, :1])
    if tokens == 2:
        put("backbone.view_token", parts.leading[:, 1:])
    put(
        "backbone.pos_embed",
        np.concatenate([np.zeros_like(parts.leading), parts.positions], axis=1),
    )
    neck = "heads.bottleneck.0"
    gain, offset = parts.neck
    checkpoint.fill(network, state)
    for name, (mean, variance) in _statistics(network, pictures, spec).items():
        norm = network.get_submodule(name)
        assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
        state[f"{name}.running_var"], state[f"{name}.running_mean"] = variance, mean
        spread = (variance + norm.eps).sqrt()
        if name == neck:  # its offset is none of its own, so its mean is known
            state[f"{name}.weight"] = torch.from_numpy(gain.copy()) * spread
            state[f"{name}.running_mean"] = torch.from_numpy(-offset / gain)
        elif name in dict(norms):
            state[f"{name}.weight"] = spread
            state[f"{name}.bias"] = state[f"{name}.bias"] + mean
    return state


def _linears(parts: _Parts) -> Iterator[tuple[Floats, Floats]]:
    """Of every block qkv, proj, fc1, fc2; the last asks for the leading tokens alone, in two."""
    *before, (query, query_bias), (rest, rest_bias), proj, fc1, fc2 = parts.linears
    yield from before
    yield np.concatenate([query, rest]), np.concatenate([query_bias, rest_bias])
    yield from (proj, fc1, fc2)


@torch.no_grad()
def _statistics(
    network: Method, pictures: UInt8, spec: InputSpec
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of what comes to every batch norm, float32 [channels] each."""
    sums: dict[str, list[Tensor]] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def add(module: nn.Module, given: tuple[Tensor, ...]) -> None:
            rows = given[0].double().movedim(1, -1).flatten(0, -2)  # [many, channels]
            new = [torch.tensor(len(rows)), rows.sum(0), rows.square().sum(0)]
            old = sums.get(name)
            sums[name] = new if old is None else [a + b for a, b in zip(old, new, strict=True)]

        return add

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    mean, std = (torch.tensor(values)[:, None, None] for values in (spec.mean, spec.std))
    network.eval()
    for some in _in_parts(pictures):
        images = (torch.from_numpy(some).permute(0, 3, 1, 2).float() - mean) / std
        views = torch.zeros(len(images), dtype=torch.int64)
        network.judge(network.see(images, views), views, views)  # through both necks
    for handle in handles:
        handle.remove()
    return {
        name: ((total / n).float(), (squares / n - (total / n).square()).float())
        for name, (n, total, squares) in sums.items()
    }
