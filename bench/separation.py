"""How well scores tell pairs of one person from pairs of two, with intervals over tracklets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from skyreid.contract.errors import InputError

Floats = NDArray[np.float32]
Rates = NDArray[np.float64]

DRAWS = 500


@dataclass(frozen=True)
class Pairs:
    """Cosines of pairs [P], and of which two tracklets each is: the same one twice, or two."""

    scores: Floats
    one: NDArray[np.int64]
    other: NDArray[np.int64]

    @property
    def same(self) -> NDArray[np.bool_]:
        """Pairs [P] of one person."""
        same: NDArray[np.bool_] = self.one == self.other
        return same

    @staticmethod
    def joined(parts: Sequence[tuple[Floats, int, int]]) -> Pairs:
        """Of blocks of scores, each of one tracklet with itself or with another."""
        scores = [np.zeros(0, np.float32), *(np.ravel(block) for block, _, _ in parts)]
        counts = [np.size(block) for block, _, _ in parts]
        one = np.repeat(np.array([a for _, a, _ in parts], np.int64), counts)
        other = np.repeat(np.array([b for _, _, b in parts], np.int64), counts)
        return Pairs(np.concatenate(scores), one, other)


def single_crops(
    rows: Mapping[int, Floats],
    times_s: Mapping[int, list[float]],
    together: set[tuple[int, int]],
    apart: float,
) -> Pairs:
    """Crops of one tracklet `apart` seconds apart, and crops of two that were seen together."""
    parts = []
    for number, mine in rows.items():
        when = np.asarray(times_s[number])
        far = np.triu(np.abs(when[:, None] - when[None]) >= apart, 1)
        parts.append(((mine @ mine.T)[far], number, number))
    for a, b in sorted(together):
        if a in rows and b in rows:
            parts.append((rows[a] @ rows[b].T, a, b))
    return Pairs.joined(parts)


def halves(rows: Mapping[int, Floats], together: set[tuple[int, int]]) -> Pairs:
    """Means of crops: a tracklet's two halves, and halves of two that were seen together."""
    means: dict[int, Floats] = {}
    for number, mine in rows.items():
        if len(mine) >= 2:
            middle = len(mine) // 2
            both = np.stack([mine[:middle].mean(0), mine[middle:].mean(0)])
            means[number] = both / np.linalg.norm(both, axis=1, keepdims=True)
    return Pairs.joined(
        [(np.asarray([m[0] @ m[1]]), number, number) for number, m in means.items()]
        + [(means[a] @ means[b].T, a, b) for a, b in sorted(together) if a in means and b in means]
    )


def centred(rows: Mapping[int, Floats]) -> dict[int, Floats]:
    """Embeddings less their camera's mean, each tracklet counted once, and normalised again.

    The server does so with each camera (``matching.likelihood.centred``).

    Args:
        rows: embeddings [K, D] by tracklet, of one camera.
    """
    mean = np.mean([mine.mean(0) for mine in rows.values()], axis=0)
    return {
        number: (mine - mean) / np.maximum(np.linalg.norm(mine - mean, axis=1, keepdims=True), 1e-9)
        for number, mine in rows.items()
    }


def roc(pairs: Pairs) -> tuple[Rates, Rates]:
    """False- and true-positive rates at every threshold, falling, starting at (0, 0)."""
    pairs, last = _ranked(pairs)
    return _rates(pairs.same, last, np.ones(len(pairs.scores)))


def _ranked(pairs: Pairs) -> tuple[Pairs, NDArray[np.int64]]:
    """The pairs by falling score, and where each threshold ends: equal scores are one."""
    order = np.argsort(-pairs.scores, kind="stable")
    ranked = Pairs(pairs.scores[order], pairs.one[order], pairs.other[order])
    return ranked, np.flatnonzero(np.append(np.diff(ranked.scores) != 0, True))


def _rates(same: NDArray[np.bool_], last: NDArray[np.int64], times: Rates) -> tuple[Rates, Rates]:
    """`roc` of ranked pairs that count so many times each."""
    false, hits = (np.cumsum(np.where(kind, times, 0.0))[last] for kind in (~same, same))
    start = np.zeros(1)
    return np.concatenate([start, false / false[-1]]), np.concatenate([start, hits / hits[-1]])


def equal_error_rate(false: Rates, hits: Rates) -> float:
    """Where as many strangers pass as people are refused."""
    at = int(np.argmin(np.abs(false - (1 - hits))))
    return float((false[at] + 1 - hits[at]) / 2)


def drawn_error_rates(pairs: Pairs, draws: int = DRAWS) -> Rates:
    """Equal error rates [draws] over tracklets drawn with replacement, from a fixed seed.

    A pair of two tracklets counts as often as both were drawn. Two models over the same pairs meet
    the same draws, so their difference has an interval of its own. A draw without a pair of either
    kind is NaN.
    """
    pairs, last = _ranked(pairs)
    same = pairs.same
    numbers, places = np.unique(np.stack([pairs.one, pairs.other]), return_inverse=True)
    one, other = places.reshape(2, -1)
    random = np.random.default_rng(0)
    out = np.full(draws, np.nan)
    for draw in range(draws):
        times = np.bincount(random.integers(0, len(numbers), len(numbers)), minlength=len(numbers))
        both = np.where(same, times[one], times[one] * times[other]).astype(np.float64)
        if both[same].any() and both[~same].any():
            out[draw] = equal_error_rate(*_rates(same, last, both))
    return out


def interval(drawn: Rates) -> list[float]:
    """The middle 95 % of what was drawn."""
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def judge(pairs: Pairs, drawn: Rates) -> dict[str, float | list[float]]:
    """Equal error rate with its interval, area under the curve, hits at two false-positive rates.

    Raises:
        InputError: when there is nothing to compare.
    """
    require_both(pairs)
    false, hits = roc(pairs)
    return {
        "same": int(pairs.same.sum()),
        "different": int((~pairs.same).sum()),
        "eer": equal_error_rate(false, hits),
        "eer_interval": interval(drawn),
        "auc": float(np.trapezoid(hits, false)),
        "tpr_at_fpr_0.1": float(hits[false <= 0.1].max()),
        "tpr_at_fpr_0.01": float(hits[false <= 0.01].max()),
    }


def require_both(pairs: Pairs) -> None:
    """Raise `InputError` where pairs of one kind are missing."""
    for there, of in ((pairs.same, "one tracklet"), (~pairs.same, "two people seen at once")):
        if not there.any():
            raise InputError(f"no two crops of {of} to compare: take longer clips")
