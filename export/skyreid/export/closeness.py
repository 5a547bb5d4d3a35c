"""How close a numeric format's embeddings are to the exact ones, and how close they must be.

Limits are parts of what the model can tell apart. An absolute cosine says nothing: embeddings that
share a large part keep every cosine near 1 while the ranks are lost, and those of a better model,
which spreads people out, move more and lose nothing. So a change of a similarity is held against
the *gap*: how much more alike two pictures of one person are than two of strangers. Where there
is scarcely one, as of random weights, it is held against twice the spread of strangers'
similarities, which is about the gap of a trained model, and nothing is claimed of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import GateError

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Rounded = Literal["fp16", "int8"]
Facts = dict[str, float]

GOLDEN_COSINES: dict[Rounded, float] = {"fp16": 0.999, "int8": 0.99}
"""At worst, of golden pictures, of whom nobody knows whom they show: that the format computes
right, as devices hold it (`runner.self_test`), and nothing of what it costs."""
FEWEST_PAIRS = 8
"""Of one person each, from which a gap is measured."""
FEWEST_PICTURES = 32
"""From which it says something whether the nearest stays."""
GAP_MIN = 0.25
"""Of the spread: a gap below that is scarcely one. Random weights have .05 to .2, trained 1.5."""


@dataclass(frozen=True)
class Limits:
    """What a numeric format may lose, on pictures that its ranges never saw.

    Attributes:
        noise: of the changes of all pairs' similarities, standard deviation, at most; as a part of
            the gap, or of twice the spread where there is scarcely a gap.
        worst: the same of the one picture whose similarities change most.
        gap_kept: part of the gap that is left, at least.
        rank1_agreement: of the pictures, whose nearest other shows the same person as before, at
            least: which of two pictures of one person is nearer is nobody's loss.
        rank5_agreement: of the pictures, among whose five nearest that person is.
    """

    noise: float
    worst: float
    gap_kept: float
    rank1_agreement: float
    rank5_agreement: float


LIMITS: dict[Rounded, Limits] = {
    "fp16": Limits(0.01, 0.03, 0.99, 0.9, 0.99),
    "int8": Limits(0.08, 0.2, 0.95, 0.75, 0.95),
}


def distance(found: Floats, wanted: Floats, people: Ints | None = None) -> Facts:
    """How far embeddings [N, D] are from the exact ones, all rows of unit length.

    Args:
        found: of the format.
        wanted: exact.
        people: a number for whom each shows, int64 [N]; None where nobody knows, or where they
            are drawn: how far a model spreads out what is no person says nothing.

    Returns:
        `mean_cosine` and `min_cosine` of each picture with itself; `pair_error`, the largest change
        of the similarity of two pictures. With people also `spread`, the standard deviation of
        strangers' similarities, `noise` and `worst`, see `Limits`; of enough pairs `gap` and
        `gap_kept`; of enough pictures `rank1_agreement` and `rank5_agreement`.
    """
    similar = cosines(found, wanted)
    before, after = (rows.astype(np.float64) @ rows.T for rows in (wanted, found))
    upper = np.triu_indices(len(wanted), 1)
    pairs, change = before[upper], (after - before)[upper]
    facts = {
        "mean_cosine": float(similar.mean()),
        "min_cosine": float(similar.min()),
        "pair_error": float(np.abs(change).max()),
    }
    if people is None:
        return facts
    same = (people[:, None] == people)[upper]
    facts["spread"] = float(pairs[~same].std())
    if same.sum() >= FEWEST_PAIRS:
        facts["gap"] = float(pairs[same].mean() - pairs[~same].mean())
        if facts["gap"]:
            changed = float(change[same].mean() - change[~same].mean())
            facts["gap_kept"] = 1 + changed / facts["gap"]
    scale = facts["gap"] if has_gap(facts) else 2 * facts["spread"]
    part_of = max(scale, float(np.finfo(np.float32).tiny))
    facts["noise"] = float(change.std()) / part_of
    facts["worst"] = float(_of_each(after - before).max()) / part_of
    if len(wanted) < FEWEST_PICTURES:
        return facts
    for similarity in (before, after):
        np.fill_diagonal(similarity, -2)
    nearest = people[before.argmax(1)]
    five = people[np.argsort(-after, axis=1, kind="stable")[:, :5]]
    facts["rank1_agreement"] = float((five[:, 0] == nearest).mean())
    facts["rank5_agreement"] = float((five == nearest[:, None]).any(1).mean())
    return facts


def has_gap(facts: Facts) -> bool:
    """Whether the model tells people apart, so that limits are parts of its gap."""
    gap = facts.get("gap", 0.0)
    return gap > 0 and gap >= GAP_MIN * facts["spread"]


def cosines(found: Floats, wanted: Floats) -> NDArray[np.float64]:
    """Of each row [N, D] with the exact one, float64 [N]."""
    similar: NDArray[np.float64] = (found.astype(np.float64) * wanted).sum(1)
    return similar


def failures(measured: Facts, rounded: Rounded, what: str) -> list[str]:
    """A line for each limit that is not kept, which a number that is none never does."""
    limits = LIMITS[rounded]
    if "noise" not in measured:
        limit = GOLDEN_COSINES[rounded]
        close = measured["min_cosine"]
        return [] if close >= limit else [f"{what}: cosine {close:.5f} at worst, limit {limit}"]
    of = "double spread of similarities"
    if has_gap(measured):
        of = "gap between people and strangers"
    lines = [
        f"{what}: {said} {measured[name]:.3f} of the {of}, limit {limit}"
        for name, said, limit in (
            ("noise", "similarities change by", limits.noise),
            ("worst", "one picture's similarities change by", limits.worst),
        )
        if not measured[name] <= limit
    ]
    if has_gap(measured) and not measured["gap_kept"] >= limits.gap_kept:
        lines.append(
            f"{what}: {measured['gap_kept']:.3f} of the gap between people and strangers is left, "
            f"limit {limits.gap_kept}"
        )
    lines += [
        f"{what}: who is nearest {said} for {measured[name]:.3f} of the pictures, limit {limit}"
        for name, said, limit in (
            ("rank1_agreement", "stays", limits.rank1_agreement),
            ("rank5_agreement", "stays among five", limits.rank5_agreement),
        )
        if name in measured and not measured[name] >= limit
    ]
    return lines


def require(measured: Facts, rounded: Rounded) -> None:
    """Raise `GateError` where a format is too far from fp32 (or not a number)."""
    lines = failures(measured, rounded, f"{rounded} against fp32")
    if lines:
        raise GateError("; ".join(lines))


def _of_each(change: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each picture: standard deviation of the changes of its similarities to the others."""
    others = ~np.eye(len(change), dtype=np.bool_)
    rows = change[others].reshape(len(change), -1)
    deviations: NDArray[np.float64] = rows.std(1)
    return deviations
