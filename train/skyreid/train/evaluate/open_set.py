"""Who is in the gallery, and who is not: FNIR at a given FPIR, by gallery size and altitude.

A ranking always finds somebody. An open set also holds people who are not enrolled: each query is
asked of a gallery with its person (a miss unless that person comes first and its score passes) and
of one without (a false identification if anybody passes), at one threshold for all queries, set so
that the share `FPIRS` of the latter passes (ISO/IEC 19795-1; Grother, Ngan and Hanaoka, NIST IR
8271). A person's score is that of the most alike picture; cosines as they come, of no camera less
its mean.

A gallery of N people is drawn `DRAWS` times, since it may or may not hold somebody's look-alike.
Intervals: people who ask are drawn with replacement, thresholds anew each time, as in `bootstrap`.
They do not draw other enrolled people, so they are too narrow where the gallery is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.train.data.trials import Trial
from skyreid.train.evaluate.bootstrap import CONFIDENCE, SEED, Interval
from skyreid.train.evaluate.breakdown import Places, across
from skyreid.train.evaluate.metrics import BLOCK_BYTES, Bools, Embedded, Floats, Ints, Ranked

FPIRS = (0.001, 0.01, 0.1)
SIZES = (50, 100, 200, 500, 1000, 2000, 5000)
"""People of a gallery; those below all that there are, and all."""
DRAWS = 20
RESAMPLES = 400
ALL = "all"


@dataclass(frozen=True)
class Missed:
    """One row: who asked among how many.

    Attributes:
        trial: the protocol.
        part: "all", or from where the drones looked.
        people: enrolled.
        asking: people who asked.
        queries: pictures that they asked with.
        fnir: fraction at each of `FPIRS`; None where it is set by fewer than one stranger.
        intervals: 95 % of each, over people.
    """

    trial: str
    part: str
    people: int
    asking: int
    queries: int
    fnir: tuple[float | None, ...]
    intervals: tuple[Interval | None, ...]


def missed(
    ranked: Ranked, trials: Sequence[Trial], places: Places, sizes: Sequence[int] = SIZES
) -> list[Missed]:
    """Every protocol across views, and the ones that search everything, by size and by altitude.

    Altitudes are those of the drones that ask, or are searched; of the whole gallery only.
    """
    found = []
    for trial in trials:
        if not (trial.query.size and trial.gallery.size):
            continue
        whole = np.ones(trial.query.size, np.bool_)
        everything = _Asked.of(ranked, trial, trial.gallery)
        enrolled = everything.people.size
        for size in [*(s for s in sizes if s < enrolled), enrolled]:
            found.append(everything.missed(trial.name, ALL, size, whole))
        if not across(ranked, trial):
            continue
        from_air = bool(ranked.query.aerial[trial.query].all())
        for number, name in enumerate(places.names):
            if from_air:
                mine = places.query[trial.query] == number
                found.append(everything.missed(trial.name, name, enrolled, mine))
                continue
            searched = trial.gallery[places.gallery[trial.gallery] == number]
            part = _Asked.of(ranked, trial, searched)
            found.append(part.missed(trial.name, name, part.people.size, whole))
    return [row for row in found if row.queries]


@dataclass(frozen=True)
class _Asked:
    """A protocol's queries, and the best score of each among the pictures of each person.

    Attributes:
        asking: int64 [Q], whose each query is.
        people: int64 [P], ascending, who is in the gallery.
        best: float32 [Q, P], -inf where the rules of the protocol leave no picture.
    """

    asking: Ints
    people: Ints
    best: Floats

    @staticmethod
    def of(ranked: Ranked, trial: Trial, searched: Ints) -> _Asked:
        """Of some pictures of the gallery."""
        query, gallery = ranked.query.rows(trial.query), ranked.gallery.rows(searched)
        order = np.argsort(gallery.people, kind="stable")
        gallery = gallery.rows(order)
        if trial.domains:
            query, gallery = query.in_two_domains(), gallery.in_two_domains()
        people, begins = np.unique(gallery.people, return_index=True)
        best = np.full((query.people.size, people.size), -np.inf, np.float32)
        block = max(1, BLOCK_BYTES // (4 * max(1, gallery.people.size)))
        for start in range(0, query.people.size if people.size else 0, block):
            rows = slice(start, start + block)
            best[rows] = np.maximum.reduceat(_scores(query, gallery, rows), begins, axis=1)
        return _Asked(query.people, people, best)

    def missed(self, trial: str, part: str, size: int, asks: Bools) -> Missed:
        """Among `size` people, of the queries for which `asks` [Q] holds."""
        own = self.asking[:, None] == self.people[None]
        mate = np.where(own, self.best, -np.inf).max(1, initial=-np.inf)
        asks = asks & np.isfinite(mate)  # who has a picture left that may be found
        names, place = np.unique(self.asking[asks], return_inverse=True)
        mate, own = mate[asks], own[asks]
        others = np.where(own, -np.inf, self.best[asks])
        draws = DRAWS if size < self.people.size else 1
        rng = np.random.default_rng(SEED)
        # With the own person enrolled there is room for one other less.
        stranger = np.empty((draws, mate.size), np.float32)
        rival = np.empty((draws, mate.size), np.float32)
        for draw in range(draws):
            chosen = rng.permutation(self.people.size)[:size]
            stranger[draw] = others[:, chosen].max(1, initial=-np.inf)
            rival[draw] = others[:, chosen[: max(size - 1, 0)]].max(1, initial=-np.inf)
        order = np.argsort(-stranger, axis=1, kind="stable")
        at = _Draws(mate, np.take_along_axis(stranger, order, 1), order, rival)
        fnir = at.rates(np.ones(mate.size, np.int64))
        drawn = np.array(
            [
                at.rates(np.bincount(again, minlength=names.size)[place])
                for again in rng.integers(0, max(names.size, 1), (RESAMPLES, names.size))
            ]
        ).reshape(-1, len(FPIRS))
        tail = 50 * (1 - CONFIDENCE)
        ends = np.percentile(drawn, [tail, 100 - tail], axis=0) if names.size else drawn
        told = [mate.size * fpir >= 1 for fpir in FPIRS]
        return Missed(
            trial,
            part,
            size,
            int(names.size),
            int(mate.size),
            tuple(float(r) if t else None for r, t in zip(fnir, told, strict=True)),
            tuple(
                (float(ends[0, k]), float(ends[1, k])) if t else None for k, t in enumerate(told)
            ),
        )


def _scores(query: Embedded, gallery: Embedded, rows: slice) -> Floats:
    """Cosines [q, G]; -inf where query and picture are one person's, of one camera."""
    scores: Floats = query.embeddings[rows] @ gallery.embeddings.T
    own = query.people[rows, None] == gallery.people[None]
    scores[own & (query.cameras[rows, None] == gallery.cameras[None])] = -np.inf
    return scores


@dataclass(frozen=True)
class _Draws:
    """Galleries drawn for Q queries, [draws, Q] but for `mate` [Q].

    Attributes:
        mate: score of the own person.
        stranger: best score of anybody else, the gallery without the own person; descending.
        order: the query of each entry of `stranger`.
        rival: best score of anybody else, the own person in the gallery too; by query.
    """

    mate: Floats
    stranger: Floats
    order: Ints
    rival: Floats

    def rates(self, times: Ints) -> NDArray[np.float64]:
        """FNIR at each of `FPIRS` where query q asks `times` [Q] times: means over draws."""
        total = int(times.sum())
        if not total:
            return np.full(len(FPIRS), np.nan)
        rates = np.zeros(len(FPIRS))
        for scores, order, rival in zip(self.stranger, self.order, self.rival, strict=True):
            passed = np.cumsum(times[order])
            overtaken = self.mate <= rival
            for k, fpir in enumerate(FPIRS):
                # The score that the share `fpir` of strangers is above.
                cut = int(np.searchsorted(passed, fpir * total, "right"))
                out = overtaken | (self.mate <= scores[min(cut, scores.size - 1)])
                rates[k] += float((out * times).sum()) / total
        return rates / len(self.rival)


def as_json(rows: Sequence[Missed]) -> dict[str, list[dict[str, Any]]]:
    """By protocol, objects of `part`, `gallery_people`, `people`, `queries` and `fnir`.

    `fnir` holds, by FPIR in percent, the percent missed and its `interval`; None where that is set
    by fewer than one stranger.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        rates = {
            _name(fpir): None
            if rate is None or ends is None
            else {"missed": 100 * rate, "interval": [100 * end for end in ends]}
            for fpir, rate, ends in zip(FPIRS, row.fnir, row.intervals, strict=True)
        }
        found.setdefault(row.trial, []).append(
            {
                "part": row.part,
                "gallery_people": row.people,
                "people": row.asking,
                "queries": row.queries,
                "fnir": rates,
            }
        )
    return found


def table(rows: Sequence[Missed]) -> str:
    """A line a row, percent, with intervals."""
    width = max([8, *(len(row.part) for row in rows)])
    head = " ".join(f"{'FPIR ' + _name(fpir) + ' %':>10} {'95 %':>13}" for fpir in FPIRS)
    lines = [f"{'FNIR, %':<8} {'part':<{width}} {'gallery':>7} {head} {'people':>7} {'n':>6}"]
    for row in rows:
        cells = " ".join(
            f"{'–':>10} {'':>13}"
            if rate is None or ends is None
            else f"{100 * rate:10.1f} {100 * ends[0]:5.1f} - {100 * ends[1]:5.1f}"
            for rate, ends in zip(row.fnir, row.intervals, strict=True)
        )
        lines.append(
            f"{row.trial:<8} {row.part:<{width}} {row.people:>7} {cells} {row.asking:>7} "
            f"{row.queries:>6}"
        )
    return "\n".join(lines)


def _name(fpir: float) -> str:
    return f"{100 * fpir:g}"
