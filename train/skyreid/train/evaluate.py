"""Embeddings of a data set, the table of every protocol, and score distributions per view pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.train import metrics
from skyreid.train.data import cargo, pictures
from skyreid.train.data.records import Reading, Record, View, merged
from skyreid.train.metrics import Embedded, Protocol, Score

if TYPE_CHECKING:
    from skyreid.contract.input_spec import InputSpec
    from skyreid.train.checkpoint import Checkpoint
    from skyreid.train.models.method import Method

UInt8 = NDArray[np.uint8]
Floats = NDArray[np.float32]
Embed = Callable[[UInt8, View], Floats]
"""Uint8 [B, H, W, 3] pictures of one view to L2-normalised float32 [B, D]."""

VIEWS: tuple[View, View] = ("aerial", "ground")

BATCH = 64


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
    numbers = {name: index for index, name in enumerate(sorted({r.person for r in records}))}
    return Embedded(
        rows,
        np.asarray([numbers[r.person] for r in records], np.int64),
        np.asarray([r.camera for r in records], np.int64),
        aerial,
    )


def with_torch(read: Checkpoint) -> Embed:
    """A checkpoint's network, ready to embed."""
    from skyreid.train import checkpoint
    from skyreid.train.models.variants import construct

    network = construct(read.config)
    checkpoint.fill(network, read.state)
    return served(network, read.input_spec)


def served(network: Method, spec: InputSpec) -> Embed:
    """A network in its serving forms, one per view where it needs the label."""
    import torch

    from skyreid.train.checkpoint import Embedder

    if network.needs_view:
        forms = {view: Embedder(network.serving(view), spec).eval() for view in VIEWS}
    else:
        forms = dict.fromkeys(VIEWS, Embedder(network.serving(None), spec).eval())

    def embed(images: UInt8, view: View) -> Floats:
        with torch.inference_mode():
            rows: Floats = forms[view](torch.from_numpy(images)).numpy()
        return rows

    return embed


def open_model(path: Path) -> tuple[Embed, InputSpec]:
    """A checkpoint (.safetensors) or a bundle of view `any`, ready to embed, and what it takes.

    Raises:
        InputError: when it cannot be read or does not embed people.
    """
    if path.suffix == ".safetensors":
        from skyreid.train import checkpoint

        read = checkpoint.load(path)
        if read.kind != "embedder":
            raise InputError(f"{path} holds a {read.kind}, and this needs an embedder")
        return with_torch(read), read.input_spec
    from skyreid.bundle.archive import open_bundle
    from skyreid.bundle.runner import start

    bundle = open_bundle(path)
    if bundle.manifest.kind != "embedder":
        raise InputError(f"{path} is a bundle of a {bundle.manifest.kind}; this needs an embedder")
    if bundle.manifest.view != "any":
        raise InputError(f"{path} serves {bundle.manifest.view} cameras only; evaluate needs both")
    runner = start(bundle)
    return lambda images, view: runner.run(images)["embedding"], bundle.manifest.input


@dataclass(frozen=True)
class Report:
    """What the test split of a data set gave.

    Attributes:
        data: the tree.
        people: how many there are in query and gallery together.
        query: pictures.
        gallery: pictures.
        refused: files that were left out, by reason.
        scores: of every protocol.
    """

    data: Path
    people: int
    query: int
    gallery: int
    refused: dict[str, int]
    scores: dict[Protocol, Score]


def report(model: Path, data: Path) -> Report:
    """Every protocol on the test split of a CARGO-shaped tree.

    Args:
        model: checkpoint or bundle.
        data: tree with query/ and gallery/.

    Raises:
        InputError: when the model or the data cannot be used.
    """
    query, gallery = cargo.read(data, "query"), cargo.read(data, "gallery")
    embed, spec = open_model(model)
    both = [*query.records, *gallery.records]  # one numbering of people for query and gallery
    loaded = pictures.load(both, spec, refused=merged([query.refused, gallery.refused]))
    everything = embedded(embed, loaded.records, loaded.images)
    asking = loaded.left_of(len(query.records))
    is_query = np.arange(len(loaded.records)) < asking
    scores = metrics.protocols(everything.where(is_query), everything.where(~is_query))
    return Report(
        data,
        people=len({r.person for r in loaded.records}),
        query=asking,
        gallery=len(loaded.records) - asking,
        refused=_refused([query, gallery], loaded.unreadable),
        scores=scores,
    )


def table(report: Report) -> str:
    """The report for people: a line a protocol, in percent, and what was ranked."""
    lines = [
        metrics.table(report.scores),
        f"{report.people} people, {report.query} query and {report.gallery} gallery pictures of "
        f"{report.data}",
    ]
    lines += [f"refused {count} files by {reason}" for reason, count in report.refused.items()]
    return "\n".join(lines)


def _refused(readings: Sequence[Reading], unreadable: tuple[Path, ...]) -> dict[str, int]:
    found = merged([*(r.refused for r in readings), {pictures.UNREADABLE: unreadable}])
    return {reason: len(paths) for reason, paths in found.items() if paths}
