"""What looks alone could tell of who came back, visits given as they are: the bound of the judge.

::

    python bench/world_open.py WORK --seed tune
    python bench/world_open.py WORK --seed report --among 1 29

Who comes back is looked for among those who came in the first hours of `world`'s day, and so is
everybody who comes later for the first time. A visit is all its tracklets, by view, as if tracking
and matching had made no mistake. For each kind of score: how many are found at an error rate that
the bar is *set by afterwards* (no judge can do better with it), and what `people.judge` accepts,
who does not know them, of the last. Pictures and embeddings must be there (`world`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from world import BUNDLE, SEEDS
from world_crops import Embedded, Rendering
from world_score import rate
from world_site import CAMERAS, KNOWN_S, SLOT_S, Day, day

from skyreid.contract.sighting import View
from skyreid.server.app import score_priors
from skyreid.server.people.judge import Candidate, Cohort, probabilities, unit_of
from skyreid.server.people.looks import STRENGTH, variance
from skyreid.server.people.options import PeopleOptions

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
RATES = (0.01, 0.05)
SHARE = 0.4
"""Of those who come, so many had been here before: what the judge has counted by then."""
SURE = 0.5


@dataclass(frozen=True, eq=False)
class Visits:
    """Visits of people: those who are known, those who come back, and those who come first."""

    pid: NDArray[np.int64]
    family: NDArray[np.int64]
    alike: Bools
    begin_s: Floats
    end_s: Floats
    looks: Floats
    """[N, 2, D] means from above and from the ground; 0 where there is none."""
    many: NDArray[np.int64]
    """[N, 2] of so many passages."""

    def of(self, some: Bools | NDArray[np.int64]) -> Visits:
        """Some of them, by a mask or by places."""
        return Visits(*(each[some] for each in self.__dict__.values()))


def visits_of(happened: Day, embedded: Embedded, *, centre: bool) -> list[Visits]:
    """Known, back and first."""
    some = [p for p in happened.passages if (p.pid, p.visit, p.camera) in embedded.vectors]
    looks = np.stack([embedded.vectors[p.pid, p.visit, p.camera].mean(0) for p in some])
    looks = _unit(looks.astype(np.float64))
    view = np.array([CAMERAS[p.camera].view is View.GROUND for p in some], np.int64)
    if centre:
        slots = np.array([(p.camera, p.times_s[0] // SLOT_S) for p in some], np.int64)
        looks = _unit(looks - _means(looks, view, slots))
    names, which = np.unique([(p.pid, p.visit) for p in some], axis=0, return_inverse=True)
    sums = np.zeros((len(names), 2, looks.shape[1]))
    many = np.zeros((len(names), 2), np.int64)
    np.add.at(sums, (which.reshape(-1), view), looks)
    np.add.at(many, (which.reshape(-1), view), 1)
    begin_s, end_s = np.full(len(names), np.inf), np.zeros(len(names))
    np.minimum.at(begin_s, which.reshape(-1), [p.times_s[0] for p in some])
    np.maximum.at(end_s, which.reshape(-1), [p.times_s[-1] for p in some])
    people = [happened.people[pid] for pid in names[:, 0].tolist()]
    everything = Visits(
        names[:, 0], np.array([one.family for one in people]),
        np.array([one.alike for one in people]), begin_s, end_s,
        sums / np.maximum(many, 1)[..., None], many,
    )  # fmt: skip
    first = names[:, 1] == 0
    known = first & (begin_s < KNOWN_S)
    back = ~first & np.isin(names[:, 0], names[known, 0])
    return [everything.of(known), everything.of(back), everything.of(first & ~known)]


def _means(looks: Floats, view: NDArray[np.int64], slots: NDArray[np.int64]) -> Floats:
    """Of the camera in that half hour, shrunk as in `people.looks`."""
    out = np.zeros_like(looks)

    def shrunk(which: Bools, above: Floats) -> Floats:
        found: Floats = (looks[which].sum(0) + STRENGTH * above) / (which.sum() + STRENGTH)
        return found

    for number in np.unique(view):
        of_view = shrunk(view == number, np.zeros(looks.shape[1]))
        for camera in np.unique(slots[view == number, 0]):
            of_camera = shrunk(slots[:, 0] == camera, of_view)
            for slot in np.unique(slots[slots[:, 0] == camera, 1]):
                here = (slots[:, 0] == camera) & (slots[:, 1] == slot)
                out[here] = shrunk(here, of_camera)
    return out


def _unit(vectors: Floats) -> Floats:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    out: Floats = np.where(length > 0, vectors / np.maximum(length, 1e-9), 0.0)
    return out


def alike(these: Visits, known: Visits) -> Floats:
    """[these, known] cosines, of the pair of views in which two are most alike."""
    a_view, b_view = _unit(these.looks), _unit(known.looks)
    out = np.full((len(these.pid), len(known.pid)), -1.0)
    for a in range(2):
        for b in range(2):
            seen = np.asarray(these.looks[:, a].any(1)), np.asarray(known.looks[:, b].any(1))
            there = np.outer(*seen)
            cosines = a_view[:, a] @ b_view[:, b].T
            out = np.where(there, np.maximum(out, cosines), out)
    return out


def as_a_whole(these: Visits, known: Visits) -> Floats:
    """[these, known] what `people.looks.alike` says of two."""
    means, spread = [], []
    for each in (these, known):
        means.append(each.looks.sum(1) / (each.many > 0).sum(1)[:, None])
        spread.append(np.array([variance(row[row > 0].tolist()) for row in each.many]))
    apart = (means[0] ** 2).sum(1)[:, None] + (means[1] ** 2).sum(1) - 2 * means[0] @ means[1].T
    out: Floats = 1 - apart / (spread[0][:, None] + spread[1])
    return out


def levels(cosines: Floats, kind: str) -> tuple[Floats, Floats]:
    """[N] what is taken from a visit's cosines, and what they are divided by then."""
    n = len(cosines)
    if kind == "z-norm":
        return cosines.mean(1), cosines.std(1)
    if kind == "standing out":
        return np.array([Cohort.of(row, len(row)).level for row in _best(cosines)]), np.ones(n)
    return np.zeros(n), np.ones(n)


def _best(cosines: Floats) -> Floats:
    most = min(20, cosines.shape[1])
    return np.sort(np.partition(cosines, -most, 1)[:, -most:], 1)[:, ::-1]


def table(
    people: Sequence[Visits], cosines: Sequence[Floats], kind: str, accepted: Sequence[Bools] = ()
) -> list[str]:
    """Lines: of those who came back how many are found, by error rate."""
    known, back, first = people
    of = np.argmax(known.pid == back.pid[:, None], 1)
    both: Bools = back.looks.any(2) & known.looks[of].any(2)
    same = np.asarray(both.any(1))
    right = known.pid[cosines[0].argmax(1)] == back.pid
    lines = []
    for number, fpir in enumerate(RATES):
        if accepted:
            told, wrongly = accepted[2 * number], accepted[2 * number + 1]
        else:
            scores = []
            for each in cosines:
                level, unit = levels(each, kind)
                scores.append((each.max(1) - level) / unit)
            bar = np.sort(scores[1])[::-1][int(fpir * len(scores[1]))]
            told, wrongly = scores[0] > bar, scores[1] > bar
        hit, plain = told & right, ~back.alike
        lines.append(
            f"  {kind:<13} FPIR {100 * fpir:g} %: same view {_share(hit[same & plain])}, across "
            f"{_share(hit[~same & plain])}, look-alikes {_share(hit[back.alike])}, wrong "
            f"{_share(told & ~right)}; first comers {_share(wrongly)}, "
            f"without look-alikes {_share(wrongly[~first.alike])}"
        )
    return lines


def judged(people: Sequence[Visits], cosines: Sequence[Floats], unit: float) -> list[Bools]:
    """Who is told by `people.judge`: back and first, for each rate."""
    known, out = people[0], []
    half_life_h = PeopleOptions().half_life_h
    for fpir in RATES:
        for these, each in zip(people[1:], cosines, strict=True):
            told = []
            for row, begin_s in zip(each / unit, these.begin_s, strict=True):
                order = np.argsort(row)[::-1][:20]
                some = [
                    Candidate(str(k), float(row[k]), max(0.0, begin_s - known.end_s[k]))
                    for k in order
                ]
                cohort = Cohort.of([one.score for one in some], len(row))
                sure = probabilities(some, cohort, SHARE, half_life_h)[0]
                told.append(cohort.beyond(some[0].score) <= fpir and sure >= SURE)
            out.append(np.array(told))
    return out


def _share(hits: Bools) -> str:
    found = rate(hits.tolist())
    if found is None:
        return "-"
    return f"{found['rate']:.3f} ({found['low']:.3f} to {found['high']:.3f}, n {len(hits)})"


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path, help="where `world` keeps pictures and embeddings")
    parser.add_argument("--seed", choices=sorted(SEEDS), default="tune", help="whose people")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--known", type=int, nargs="*", default=[150, 500], help="and all")
    parser.add_argument("--among", type=int, nargs=2, metavar=("FIRST", "LAST"), help="see `world`")
    args = parser.parse_args()
    happened = day(*SEEDS[args.seed])
    rendering = Rendering(happened, args.work)
    embedded = rendering.embed(args.bundle)
    if args.among:
        embedded = rendering.among(embedded, *args.among)
    for kind, centre in (
        ("cosine", False), ("centred", True), ("z-norm", True), ("as a whole", True),
        ("standing out", True),
    ):  # fmt: skip
        people = visits_of(happened, embedded, centre=centre)
        compared = as_a_whole if kind in ("as a whole", "standing out") else alike
        cosines = [compared(these, people[0]) for these in people[1:]]
        for many in (*args.known, len(people[0].pid)):
            of = np.random.default_rng(many).permutation(len(people[0].pid))[:many]
            there = np.isin(people[1].pid, people[0].pid[of])
            some = [people[0].of(of), people[1].of(there), people[2]]
            these = [cosines[0][there][:, of], cosines[1][:, of]]
            print(f"{many} known, {there.sum()} who came back, {len(some[2].pid)} who came first")
            print("\n".join(table(some, these, kind)), flush=True)
            if kind == "standing out":
                told = judged(some, these, unit_of(score_priors(args.bundle)))
                print("\n".join(table(some, these, "as judged", told)), flush=True)


if __name__ == "__main__":
    main()
