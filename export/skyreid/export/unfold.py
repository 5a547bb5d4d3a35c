"""From a bundle back to a checkpoint that training can start from; the detector's.

The graph of a bundle has no batch norms: each is folded into the convolution before it. What it
computes is kept whatever statistics it is given back, as long as gain and offset undo them; with
those of pictures it also computes the same while it is trained, when a batch norm takes its
statistics from the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from skyreid.bundle.archive import Bundle, open_bundle
from skyreid.bundle.runner import start
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import GateError, InputError
from skyreid.export import unfold_embedder
from skyreid.train import checkpoint
from skyreid.train.data.catalogue import NOTHING, Told
from skyreid.train.detector.clips import find_views
from skyreid.train.detector.crops import CropRules, windows
from skyreid.train.detector.fit import load_frames
from skyreid.train.models.heatmap import INPUT_SPEC, DetectorConfig, PersonDetector, build

PICTURES = 48
FRAME_STEP = 8
LARGEST = 1e-3
"""Of a difference between what the bundle and the checkpoint answer: heat, and distances as a
fraction of 1,000 pixels."""


def unfold(
    path: Path,
    data: Sequence[Path],
    out: Path,
    *,
    told: Told = NOTHING,
    trust: Trust = ANYONE,
) -> float:
    """Write the network of a bundle as a checkpoint.

    Args:
        path: of the bundle.
        data: whose pictures give the batch norms their statistics: a detector's are clips, cut as
            training cuts them, an embedder's are sets of people.
        out: the checkpoint, `.safetensors`.
        told: of sets of people, see `catalogue.open`.
        trust: whose bundles are accepted.

    Returns:
        The largest difference to the bundle's own answers, see `LARGEST` here and in
        `unfold_embedder`.

    Raises:
        InputError: it is no bundle of `PersonDetector`, VDT or the plain trunk, or `data` cannot
            be read.
        GateError: the difference is too large; nothing is written.
    """
    checkpoint.require_name(out)
    bundle = open_bundle(path, trust)
    if bundle.manifest.detector is None:
        return unfold_embedder.unfold(bundle, data, out, told)
    return _detector(bundle, data, out)


def _detector(bundle: Bundle, clips: Sequence[Path], out: Path) -> float:
    path = bundle.path
    assert bundle.manifest.detector is not None
    graph = onnx.load_from_string(bundle.model("fp32")).graph
    constants = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    pictures = _pictures(clips)
    try:
        config = _config(graph, constants)
        state = _state(PersonDetector(config), constants, torch.from_numpy(pictures))
    except KeyError as error:
        raise InputError(
            f"{path}: its graph has no {error.args[0]}, so it is not of this project's detector"
        ) from error
    notes = {"trunk": config.model_dump(mode="json"), "unfolded_from": bundle.sha256}
    difference = _difference(bundle, build(notes, state), pictures)
    if not difference <= LARGEST:
        raise GateError(f"{path}: unfolded, it answers otherwise by {difference:.1e}")
    checkpoint.save(
        out,
        kind="detector",
        config={
            **notes,
            "score_min": bundle.manifest.detector.score_min,
            "half_from_px": bundle.manifest.detector.half_from_px,
            "half_height_px": bundle.manifest.detector.half_height_px,
        },
        state=state,
        input_spec=INPUT_SPEC,
    )
    return difference


def _pictures(clips: Sequence[Path]) -> NDArray[np.uint8]:
    views = [view for clip in clips for view in find_views(clip)]
    draw = windows(load_frames(views, FRAME_STEP), CropRules())
    random = np.random.default_rng(0)
    return np.stack([draw(random)[0] for _ in range(PICTURES)])


def _config(graph: Any, constants: dict[str, NDArray[Any]]) -> DetectorConfig:
    """Channels by the shapes of kernels, dilations by the convolutions that have them."""
    dilations = {
        node.input[1]: attribute.ints[0]
        for node in graph.node
        for attribute in node.attribute
        if node.op_type == "Conv" and attribute.name == "dilations"
    }
    blocks = 0
    while f"sixteenth.{blocks + 1}.first.0.weight" in constants:
        blocks += 1
    return DetectorConfig(
        stem=len(constants["stem.0.weight"]),
        quarter=len(constants["quarter.0.weight"]),
        eighth=len(constants["eighth.0.0.weight"]),
        sixteenth=len(constants["sixteenth.0.0.weight"]),
        dilations=tuple(dilations[f"sixteenth.{n + 1}.first.0.weight"] for n in range(blocks)),
    )


def _state(
    network: PersonDetector, constants: dict[str, NDArray[Any]], pictures: Tensor
) -> dict[str, Tensor]:
    """The state_dict of the network, whose batch norms have the statistics of `pictures`."""
    state = network.state_dict()
    norms: dict[str, nn.BatchNorm2d] = {}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            kernel = f"{name.removesuffix('.1')}.0.weight"  # a norm is the second of its pair
            norms[name] = module
            state[f"{name}.weight"] = torch.full_like(module.weight, (1 + module.eps) ** 0.5)
            state[f"{name}.bias"] = torch.from_numpy(constants[f"{kernel}_bias"].copy())
            state[kernel] = torch.from_numpy(constants[kernel].copy())
        elif isinstance(module, nn.Conv2d) and module.bias is not None:
            for part in ("weight", "bias"):
                state[f"{name}.{part}"] = torch.from_numpy(constants[f"{name}.{part}"].copy())
    checkpoint.fill(network, state)
    seen: dict[str, Tensor] = {}
    handles = [
        norm.register_forward_pre_hook(lambda _, given, name=name: seen.update({name: given[0]}))
        for name, norm in norms.items()
    ]
    with torch.no_grad():
        network.eval().raw(pictures)
    for handle in handles:
        handle.remove()
    for name, norm in norms.items():
        mean, variance = seen[name].mean((0, 2, 3)), seen[name].var((0, 2, 3), correction=0)
        state[f"{name}.running_mean"], state[f"{name}.running_var"] = mean, variance
        state[f"{name}.weight"] = (variance + norm.eps).sqrt()
        state[f"{name}.bias"] = state[f"{name}.bias"] + mean
    return state


def _difference(bundle: Bundle, network: nn.Module, pictures: NDArray[np.uint8]) -> float:
    """The largest of all differences between a bundle's answers and a network's.

    Of heat only where both have a peak: which of two equal neighbours is one, rounding decides.
    """
    runner, worst = start(bundle, numeric_format="fp32"), 0.0
    for picture in pictures:
        theirs = runner.run(picture[None])
        with torch.inference_mode():
            heat, box = (found.numpy() for found in network(torch.from_numpy(picture)[None]))
        both = (heat > 0) & (theirs["heat"] > 0)
        worst = max(
            worst,
            float(np.abs(heat - theirs["heat"])[both].max(initial=0.0)),
            float(np.abs(box - theirs["box"]).max()) / 1000,
        )
    return worst
