"""A model ready to embed people's pictures, from memory or from files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import fit
from skyreid.train.data import pictures
from skyreid.train.data.records import ByReason, Record, View, check_refused, merged
from skyreid.train.evaluate.metrics import Embedded, Ints

if TYPE_CHECKING:
    from skyreid.bundle.archive import Bundle
    from skyreid.bundle.manifest import NumericFormat
    from skyreid.contract.input_spec import InputSpec
    from skyreid.train.checkpoint import Checkpoint
    from skyreid.train.models.method import Method

UInt8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
Embed = Callable[[UInt8, View], Floats]
"""Uint8 [B, H, W, 3] pictures of one view to L2-normalised float32 [B, D]."""

VIEWS: tuple[View, View] = ("aerial", "ground")

BATCH = 64
TINY = np.float32(1e-12)


def embedded(embed: Embed, records: Sequence[Record], images: UInt8) -> Embedded:
    """Embed `images` uint8 [N, H, W, 3], which are the pictures of `records` in their order."""
    aerial = np.asarray([r.view == "aerial" for r in records], np.bool_)
    rows: Floats | None = None
    for view in VIEWS:
        mine = np.flatnonzero(aerial == (view == "aerial"))
        for start in range(0, len(mine), BATCH):
            some = mine[start : start + BATCH]
            found = embed(images[some], view)
            if rows is None:
                rows = np.empty((len(records), found.shape[1]), np.float32)
            rows[some] = found
    if rows is None:
        raise InputError("no pictures to embed")
    return labelled(rows, records)


def in_grey(embed: Embed) -> Embed:
    """What it makes of the luma (BT.601) of pictures, as all three colours."""

    def grey(images: UInt8, view: View) -> Floats:
        luma = np.rint(images @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
        return embed(np.repeat(luma[..., None], 3, axis=-1), view)

    return grey


def labelled(rows: Floats, records: Sequence[Record]) -> Embedded:
    """Embeddings [N, D] with whose they are, `records` in the same order."""
    numbers = numbered(records)
    return Embedded(
        rows,
        np.asarray([numbers[r.person] for r in records], np.int64),
        np.asarray([r.camera for r in records], np.int64),
        np.asarray([r.view == "aerial" for r in records], np.bool_),
    )


def numbered(records: Sequence[Record]) -> dict[str, int]:
    """The number of every person, as in what `embedded` and `read_and_embed` return."""
    return {name: index for index, name in enumerate(sorted({r.person for r in records}))}


def read_and_embed(
    opened: Opened, records: Sequence[Record], refused: ByReason
) -> tuple[Embedded, Ints, tuple[Path, ...]]:
    """Embed pictures from their files; only some batches of them are ever in memory.

    Args:
        opened: the model.
        records: whose pictures.
        refused: what the reader of the data set refused already.

    Returns:
        What could be read, in the order of `records`; its places there, int64 [K] ascending; and
        the files that cannot be decoded.

    Raises:
        InputError: when there is nothing to read, or when more than 1 % of the pictures are refused
            or unreadable.
    """
    if not records:
        raise InputError("no pictures to embed")
    batches = [
        (view, mine[start : start + BATCH])
        for view in VIEWS
        if (mine := [i for i, r in enumerate(records) if r.view == view])
        for start in range(0, len(mine), BATCH)
    ]

    def read(batch: tuple[View, list[int]]) -> tuple[View, list[int], UInt8, list[int]]:
        view, indices = batch
        images = np.empty((len(indices), opened.spec.height, opened.spec.width, 3), np.uint8)
        good: list[int] = []
        for index in indices:
            try:
                images[len(good)] = fit(pictures.read_rgb(records[index].path), opened.spec)
            except InputError:
                continue  # its name is among those returned, or in the error below
            good.append(index)
        return view, good, images[: len(good)], indices

    rows: Floats | None = None
    kept = np.zeros(len(records), np.bool_)
    with (
        ThreadPoolExecutor(1) as reader,  # decodes the next batch while this one is embedded
        tqdm(total=len(records), desc="embedding", unit="picture", disable=None) as bar,
    ):
        following = reader.submit(read, batches[0])
        for number in range(len(batches)):
            view, good, images, asked = following.result()
            if number + 1 < len(batches):
                following = reader.submit(read, batches[number + 1])
            if good:
                found = opened.embed(images, view)
                if rows is None:
                    rows = np.empty((len(records), found.shape[1]), np.float32)
                rows[good] = found
                kept[good] = True
            bar.update(len(asked))
    unreadable = tuple(records[index].path for index in np.flatnonzero(~kept).tolist())
    check_refused(
        os.path.commonpath([record.path.parent.absolute() for record in records]),
        int(kept.sum()),
        merged([refused, {pictures.UNREADABLE: unreadable}]),
    )
    if rows is None:
        raise InputError("no pictures to embed")
    left = np.flatnonzero(kept)
    whole = rows if left.size == len(rows) else rows[left]
    return labelled(whole, [records[i] for i in left.tolist()]), left, unreadable


def with_torch(read: Checkpoint) -> Embed:
    """A checkpoint's network, ready to embed; on the GPU where there is one."""
    import torch

    from skyreid.train import checkpoint
    from skyreid.train.models.variants import construct

    network = construct(read.config)
    checkpoint.fill(network, read.state)
    if torch.cuda.is_available():
        network.cuda()
    return served(network, read.input_spec)


def served(network: Method, spec: InputSpec) -> Embed:
    """A network in its serving forms, one per view where it needs the label, on its device."""
    import torch

    from skyreid.train.serving import Embedder

    device = next(network.parameters()).device

    def form(view: View | None) -> Embedder:
        return Embedder(network.serving(view), spec).eval().to(device)

    forms = {v: form(v) for v in VIEWS} if network.needs_view else dict.fromkeys(VIEWS, form(None))

    def embed(images: UInt8, view: View) -> Floats:
        with torch.inference_mode():
            rows: Floats = forms[view](torch.from_numpy(images).to(device)).cpu().numpy()
        return rows

    return embed


@dataclass(frozen=True)
class Opened:
    """A model ready to embed.

    Attributes:
        embed: what it does.
        spec: its input.
        about: digest and numeric format of each file, by its path, for people.
        seen: people whom it was fitted on or chosen by, as `joined` names them; a bundle does not
            say.
    """

    embed: Embed
    spec: InputSpec
    about: dict[str, str]
    seen: frozenset[str] = frozenset()


def open_model(
    paths: Sequence[Path], views: Set[View], numeric_format: NumericFormat | None = None
) -> Opened:
    """One checkpoint (.safetensors), or bundles that together are one model.

    Args:
        paths: one checkpoint, one bundle, or one bundle a view.
        views: that it will be asked for.
        numeric_format: which of a bundle's models to run; None runs what a device with this
            processor would.

    Raises:
        InputError: when a file cannot be read or does not embed people, when they are not one
            model, or when none serves a view.
    """
    if not any(path.suffix == ".safetensors" for path in paths):
        return _open_bundles(paths, views, numeric_format)
    if len(paths) > 1:
        raise InputError(
            f"{len(paths)} models given, one of them a checkpoint: a checkpoint serves both views "
            "alone, and another model is another command"
        )
    if numeric_format not in (None, "fp32"):
        raise InputError(
            f"--format {numeric_format}: {paths[0]} is a checkpoint, which runs as fp32; "
            "other formats are a bundle's"
        )
    from skyreid.train import checkpoint

    read = checkpoint.load(paths[0])
    if read.kind != "embedder":
        raise InputError(f"{paths[0]} holds a {read.kind}, and this needs an embedder")
    about = {str(paths[0]): f"checkpoint {read.sha256[:16]}, fp32"}
    seen = frozenset([*read.config.get("fitted", ()), *read.config.get("held_out", ())])
    return Opened(with_torch(read), read.input_spec, about, seen)


def _open_bundles(
    paths: Sequence[Path], views: Set[View], numeric_format: NumericFormat | None
) -> Opened:
    from skyreid.bundle.embedder import open_all
    from skyreid.bundle.runner import FORMAT_ORDER, Runner, start

    bundles = open_all(paths)
    serving: dict[View, Bundle] = {}
    for bundle in bundles:
        view = bundle.manifest.view
        serving |= dict.fromkeys(VIEWS if view == "any" else (view,), bundle)
    unserved = sorted(views - serving.keys())
    if unserved:
        raise InputError(
            f"the data has pictures of view {' and '.join(unserved)}, which none of "
            f"{', '.join(str(path) for path in paths)} serves: give the model's bundle of that "
            "view too"
        )
    runners: dict[View, Runner] = {}
    about = {}
    for bundle in bundles:
        formats = bundle.manifest.formats
        chosen = numeric_format or next(f for f in FORMAT_ORDER if f in formats)
        runner = start(bundle, numeric_format=chosen)
        runners |= dict.fromkeys((v for v, mine in serving.items() if mine is bundle), runner)
        about[str(bundle.path)] = (
            f"bundle {bundle.sha256[:16]} of model {bundle.manifest.model_key}, "
            f"view {bundle.manifest.view}, {chosen}"
        )

    def embed(images: UInt8, view: View) -> Floats:
        rows = runners[view].run(images)["embedding"]
        unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), TINY)
        return unit

    return Opened(embed, bundles[0].manifest.input, about)
