"""Published weights as a checkpoint of ours: the authors', ImageNet's and OpenAI's.

What goes where is decided by names alone, and nothing is dropped in silence: a tensor is copied,
resized, dropped by a rule that names it, or the conversion fails and lists every tensor that is
missing, unexpected or of another shape. The rules for ImageNet weights are those of the code
published with VDT, SeCap, ViSA and GSAlign, including one that looks like a slip and is kept: the
position of the view token begins as that of the first grid cell (`placed`).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from skyreid.contract.errors import InputError, SettingsError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.settings import check
from skyreid.train import checkpoint
from skyreid.train.authors import published
from skyreid.train.authors.published import Origin, described, recognised
from skyreid.train.models import variants
from skyreid.train.models.method import Declaration, Pretrained
from skyreid.train.models.positions import NAMES as POSITIONS
from skyreid.train.models.positions import resampled
from skyreid.train.models.registry import method_of, methods
from skyreid.train.models.vit import TrunkConfig

State = dict[str, Tensor]

_CALLED: dict[Pretrained, str] = {"imagenet": "ImageNet's", "clip": "CLIP's"}

# What only the training of an encoder reads: the classifier, DINO's projection, what is masked.
_TRAINING_ONLY = {
    ("head", "pre_logits", "dist"): "ImageNet's classifier",
    ("mask_token",): "stands for patches that are masked in training",
    ("decoder_",): "restores masked patches in training",
}

# Of a trunk the entries that ImageNet's ViT has too; what else a method adds begins at random.
_PLAIN = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)"
)


@dataclass
class Report:
    """What became of every tensor of the source and of the network.

    Attributes:
        source: name of the file.
        source_sha256: its digest.
        origin: whose weights they are.
        config: of the checkpoint written, with what the file decided.
        loaded: entries of the network that are the source's as they are.
        widened: how many were stored as another floating-point type than float32.
        resized: entries interpolated to another grid, and from which to which.
        copied: entries that repeat a tensor of the source used elsewhere, and which.
        initialised: entries the source has nothing for: at random, zero or computed, as in a
            fresh network.
        dropped: tensors of the source without a place, and by which rule.
        set_aside: what lay in the file beside the weights.
    """

    source: str
    source_sha256: str
    origin: Origin
    config: dict[str, Any]
    loaded: list[str] = field(default_factory=list)
    widened: int = 0
    resized: dict[str, str] = field(default_factory=dict)
    copied: dict[str, str] = field(default_factory=dict)
    initialised: list[str] = field(default_factory=list)
    dropped: dict[str, str] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Every name, ready for `json.dumps`."""
        return asdict(self)


def convert(
    source: Path,
    variant: str,
    out: Path,
    *,
    origin: Origin | None = None,
    height: int = 256,
    width: int = 128,
    people: int | None = None,
    trunk: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    key: str | None = None,
) -> Report:
    """Write the weights in `source` as a checkpoint of `variant` to `out`.

    Args:
        source: a `.safetensors` file, or what `torch.save` wrote.
        variant: one of `variants.names()`.
        out: the checkpoint.
        origin: whose weights they are; None tells by their names.
        height: of the checkpoint's input, pixels.
        width: of the checkpoint's input, pixels.
        people: classes of a classifier that begins at random, default 1; the authors' files bring
            their own. Training begins it anew wherever its people are others.
        trunk: fields of `TrunkConfig` that differ from the variant's and are not in the file.
        options: fields of the method's options, likewise.
        seed: of what begins at random.
        key: see `published.read`.

    Raises:
        InputError: when the file cannot be used, naming every tensor that has no place and every
            entry of the network that has no tensor; or `out` is no checkpoint's name.
        SettingsError: when the variant, `trunk` or `options` are wrong or contradict the file.
    """
    checkpoint.require_name(out)
    read = published.read(source, key)
    origin = origin or recognised(read.state, source)
    report = Report(source.name, read.sha256, origin, {}, widened=read.widened)
    report.set_aside = list(read.set_aside)
    state = dict(read.state)
    half = (127.5, 127.5, 127.5)  # what every published recipe trains with, ImageNet's too
    spec = InputSpec(height=height, width=width, mean=half, std=half)
    given = dict(trunk or {})
    config = variants.variant(
        variant, height=height, width=width, people=people or 1, trunk=given, options=options
    )
    declared = method_of(config["method"]).declaration
    if origin == "authors":
        spec = _recorded(state, spec, report)
        config["options"] = declared.sizes(state) | config["options"]
        if "stride" not in given and (count := published.patches(state)) is not None:
            config["trunk"] |= _stride(config["trunk"], count)
        theirs = published.people(state, variants.per_person(config))
        if people not in (None, theirs):
            raise SettingsError(f"--people {people}: {source} has {theirs}")
        config["people"] = theirs or 1
    # No person of ours was seen in ImageNet or by CLIP; of the authors' weights nobody knows here.
    config |= {"fitted": [], "held_out": [], "converted_from": origin, "source_sha256": read.sha256}
    report.config = config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own: State = variants.construct(config).state_dict()
    match origin:
        case "authors":
            found = from_authors(state, own, report, declared)
        case "imagenet":
            found = from_imagenet(state, own, report, declared)
        case "clip":
            found = from_clip(state, own, report, declared)
    report.initialised = sorted(set(own) - set(found))
    changed = {*report.resized, *report.copied}
    report.loaded = sorted(set(found) - changed)
    checkpoint.save(out, kind="embedder", config=config, state={**own, **found}, input_spec=spec)
    return report


def from_authors(state: State, own: State, report: Report, declared: Declaration) -> State:
    """The network's entries out of a checkpoint of the same method, strictly.

    Batch counters and what the network computes may be missing; what is there must be what it
    computes.

    Raises:
        InputError: see `fitting`.
    """
    for key in [k for k in state if k not in own and k.startswith(declared.unread)]:
        report.dropped[key] = "only training reads it"
        del state[key]
    computed = [k for k in own if any(part in k for part in declared.computed)]
    spare = {*computed, *(k for k in own if k.endswith("num_batches_tracked"))}
    found = fitting(state, own, report, spare=spare)
    for key in computed:
        if key in found and not torch.allclose(found[key], own[key], atol=1e-5, rtol=1e-5):
            raise InputError(
                f"{report.source}: {key} is not the constant that belongs to this grid; an older "
                f"form of the method learned it, which {declared.name} does not compute"
            )
    return found


def from_imagenet(state: State, own: State, report: Report, declared: Declaration) -> State:
    """The trunk's entries out of a ViT of timm's names.

    Raises:
        InputError: see `fitting`; also for a position embedding that is no square grid, and for a
            method whose trunk is another network than ImageNet's.
    """
    prefix = _encoder(declared, "imagenet", report)
    for key in [k for k in state if k.startswith("backbone.")]:
        state[key.removeprefix("backbone.")] = state.pop(key)
    distilled = "dist_token" in state
    for starts, why in _TRAINING_ONLY.items():
        for key in [k for k in state if k.startswith(starts)]:
            report.dropped[key] = why
            del state[key]
    kernel = state.get("patch_embed.proj.weight")
    if kernel is not None and kernel.ndim == 2:  # flattened by whoever wrote the file
        side = math.isqrt(kernel.shape[1] // 3)
        state["patch_embed.proj.weight"] = kernel.reshape(-1, 3, side, side)
    source = {prefix + key: tensor for key, tensor in state.items()}
    key = prefix + "pos_embed"
    if key in source:
        positions = source[key]
        if distilled:  # its second entry is the distillation token's
            positions = torch.cat([positions[:, :1], positions[:, 2:]], dim=1)
        source[key] = placed(positions[0], key, own, report)[None]
    wanted = {k: v for k, v in own.items() if k.startswith(prefix) and _plain(k, prefix)}
    found = fitting(source, wanted, report)
    for into, pattern in declared.copies.items():
        out_of = pattern.format(last=report.config["trunk"]["depth"] - 1)
        for key in [k for k in own if k.startswith(into)]:
            found[key] = found[key.replace(into, out_of)].clone()
            report.copied[key] = key.replace(into, out_of)
    return found


def _encoder(declared: Declaration, origin: Pretrained, report: Report) -> str:
    """Where a network keeps the encoder that such weights are for.

    Raises:
        InputError: when it has none.
    """
    if origin in declared.pretrained:
        return declared.pretrained[origin]
    takers = [n for n, method in methods().items() if origin in method.declaration.pretrained]
    raise InputError(
        f"{report.source}: {_CALLED[origin]} weights fit the encoder of {', '.join(takers)}; that "
        f"of {declared.name} is another network"
        + "".join(f", for {_CALLED[other]} weights" for other in declared.pretrained)
    )


def _plain(key: str, prefix: str) -> bool:
    return _PLAIN.fullmatch(key.removeprefix(prefix)) is not None


def from_clip(state: State, own: State, report: Report, declared: Declaration) -> State:
    """The image encoder out of CLIP.

    Raises:
        InputError: see `fitting`; also for a network that has no CLIP trunk.
    """
    prefix = _encoder(declared, "clip", report)
    source: State = {}
    for key, tensor in state.items():
        if key.startswith("visual."):
            source[prefix + key.removeprefix("visual.")] = tensor
        else:
            report.dropped[key] = "text side, which only the training of prompts reads"
    key = prefix + "positional_embedding"
    if key in source:
        source[key] = placed(source[key], key, own, report)
    wanted = {k: v for k, v in own.items() if k.startswith(prefix)}
    return fitting(source, wanted, report)


def placed(positions: Tensor, key: str, own: State, report: Report) -> Tensor:
    """The position embedding of another grid, and of two leading tokens where there are two.

    The grid is resized bilinearly, pixel centres aligned, without antialiasing, and only when it
    differs. A view token's position is a copy of entry 1, the first grid cell, as the published
    code's slicing has it; that cell stays in the grid too.

    Args:
        positions: float32 [1 + S * S, D] of a square grid behind one class token.
        key: of the network's entry.
        own: the network's entries, which say how many tokens lead.
        report: holds the configuration; the change is entered.

    Returns:
        Float32 [T + rows * columns, D].

    Raises:
        InputError: when the source is no square grid.
    """
    trunk = check(TrunkConfig, report.config["trunk"], "--trunk")
    side = math.isqrt(positions.shape[0] - 1)
    if side * side != positions.shape[0] - 1:
        raise InputError(
            f"{report.source}: {key} has {positions.shape[0]} entries, which is not a class token "
            "and a square grid"
        )
    rows, columns = trunk.grid()
    cells = positions[1:]
    if (side, side) != (rows, columns):
        cells = resampled(cells, (side, side), (rows, columns))
        report.resized[key] = f"{side}x{side} to {rows}x{columns}, bilinear"
    leading = own[key].shape[-2] - rows * columns
    if leading == 2:
        report.copied[f"{key}[1]"] = f"{key}[1] of the source, the first cell of its grid"
    return torch.cat([positions[:leading], cells])


def fitting(
    source: State, wanted: State, report: Report, *, spare: frozenset[str] | set[str] = frozenset()
) -> State:
    """`source`, when its entries are `wanted`'s by name and shape but for those of `spare`.

    Raises:
        InputError: naming every entry that is missing, unexpected or of another shape.
    """
    missing = sorted(set(wanted) - set(source) - spare)
    unexpected = sorted(set(source) - set(wanted))
    shapes = [
        f"{key} {list(source[key].shape)} instead of {list(wanted[key].shape)}"
        for key in sorted(set(source) & set(wanted))
        if source[key].shape != wanted[key].shape
    ]
    wrong = [
        f"{what} {len(names)}: {', '.join(names)}"
        for what, names in (
            ("missing", missing), ("unexpected", unexpected), ("of another shape", shapes),
        )
        if names
    ]  # fmt: skip
    if wrong:
        name = report.config["variant"]
        sized = not (missing or unexpected) and all(
            any(part in shape for part in POSITIONS) for shape in shapes
        )
        raise InputError(
            f"{report.source} does not fit {name} ({described(source)}); {'; '.join(wrong)}"
            + ("; give the --height and --width that it was trained at" if sized else "")
        )
    return source


def _recorded(state: State, spec: InputSpec, report: Report) -> InputSpec:
    """The input spec, with mean and deviation out of the file where it says them."""
    found = {name: published.statistics(state, f"pixel_{name}") for name in ("mean", "std")}
    for name in (n for n, values in found.items() if values is not None):
        report.dropped[f"pixel_{name}"] = "kept in the checkpoint's input spec"
    return spec.model_copy(update={n: v for n, v in found.items() if v is not None})


def _stride(trunk: Mapping[str, Any], count: int) -> dict[str, int]:
    """The stride that gives `count` patch tokens, unless it is the variant's or there is none.

    Never two for rows and columns: for a model of another size some pair nearly always fits.

    Raises:
        SettingsError: when several strides do.
    """
    strides = range(1, int(trunk.get("patch", TrunkConfig().patch)) + 1)
    fitting_ones = [
        stride
        for stride in strides
        if math.prod(check(TrunkConfig, {**trunk, "stride": stride}, "--trunk").grid()) == count
    ]
    if trunk["stride"] in fitting_ones or not fitting_ones:
        return {}  # none: the position embedding will be named as one of another shape
    if len(fitting_ones) > 1:
        raise SettingsError(
            f"strides {', '.join(map(str, fitting_ones))} all give {count} patches of "
            f"{trunk['height']}x{trunk['width']}; choose with --trunk stride=N"
        )
    return {"stride": fitting_ones[0]}


def table(report: Report) -> str:
    """The report in lines; numbered layers are put together."""
    trunk = report.config["trunk"]
    lines = [
        f"{report.config['variant']} for {trunk['height']}x{trunk['width']}, stride "
        f"{trunk['stride']}, {report.config['people']} people, from {report.origin} weights "
        f"{report.source} ({report.source_sha256[:12]})",
        f"loaded       {len(report.loaded)} tensors, {report.widened} of the file's widened to "
        "float32",
    ]
    for word, changed in (("resized", report.resized), ("copied", report.copied)):
        lines += [f"{word:<12} {name}: {what}" for name, what in changed.items()]
    lines += [f"{'initialised':<12} {name}" for name in _together(report.initialised)]
    for reason in dict.fromkeys(report.dropped.values()):
        names = [name for name, why in report.dropped.items() if why == reason]
        lines += [f"{'dropped':<12} {name}: {reason}" for name in _together(names)]
    lines += [f"{'set aside':<12} {name}" for name in report.set_aside]
    return "\n".join(lines)


def _together(names: list[str]) -> list[str]:
    """Names with the numbers of layers left out, each with how many it stands for."""
    counts = Counter(re.sub(r"\.\d+\.", ".*.", name) for name in names)
    return [name if count == 1 else f"{name} ({count})" for name, count in counts.items()]
