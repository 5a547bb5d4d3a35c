"""How good a network is for people it was not trained on, and which checkpoint that makes best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train.data.records import Record
from skyreid.train.evaluate.embedding import embedded, served
from skyreid.train.evaluate.metrics import Score, score
from skyreid.train.fit.task import Verdict
from skyreid.train.models.method import Method


def check(held_out: Sequence[Record]) -> None:
    """Refuse held-out people of whom no picture can be found by another.

    Raises:
        InputError: saying so.
    """
    cameras: dict[str, set[int]] = {}
    for record in held_out:
        cameras.setdefault(record.person, set()).add(record.camera)
    if not any(len(seen) > 1 for seen in cameras.values()):
        raise InputError(
            f"none of the {len(cameras)} held-out people is seen by two cameras, so no checkpoint "
            "can be chosen by searching for them; raise run.held_out_people, or add cameras"
        )


def cross_view(
    network: Method, spec: InputSpec, held_out: Sequence[Record], images: NDArray[np.uint8]
) -> dict[str, Score]:
    """A->G and G->A among the held-out people, every picture query and gallery alike.

    Where nobody is seen from both views there is neither; they search each other's cameras: ALL.
    """
    embed = served(network, spec)
    everything = embedded(embed, held_out, images)
    aerial, ground = everything.where(everything.aerial), everything.where(~everything.aerial)
    if not np.intersect1d(aerial.people, ground.people).size:
        return {"ALL": score(everything, everything)}
    return {"A->G": score(aerial, ground), "G->A": score(ground, aerial)}


def selection_value(results: Mapping[str, Score]) -> float:
    """Mean of R1 and mAP over the protocols in `results`, as a fraction."""
    return float(np.mean([(s.rank1 + s.average_precision) / 2 for s in results.values()]))


def verdict(results: Mapping[str, Score]) -> Verdict:
    """What the ranks of every protocol say: R1/mAP in percent, and `selection_value`."""
    rates = {name: (100 * s.rank1, 100 * s.average_precision) for name, s in results.items()}
    return Verdict(
        selection_value(results),
        " ".join(f"{name}={r1:.1f}/{mean:.1f}" for name, (r1, mean) in rates.items()),
        {
            f"{name}/{what}": value
            for name, pair in rates.items()
            for what, value in zip(("R1", "mAP"), pair, strict=True)
        },
    )
