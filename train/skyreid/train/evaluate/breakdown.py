"""Every protocol with what it is worth, and the parts of it that tell why a number is what it is.

* Without the query's camera: of a query searched in its own view, everything that its camera took
  leaves the gallery, not only its own person. Where this number is far above the other, the model
  finds cameras before it finds people.
* By aerial camera or altitude, for protocols across views: the queries of that camera where drones
  ask, a gallery of that camera alone where they are searched.
* By cue, for protocols across views: the queries of people whom a cue sets apart from their
  look-alikes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from skyreid.train.data.trials import Trial, two_views
from skyreid.train.evaluate.bootstrap import Estimate, estimate
from skyreid.train.evaluate.metrics import Bools, Doubles, Embedded, Ints, Measures, Ranked, rank

MOST_ALTITUDES = 8
"""More different altitudes than these are put into steps of `STEP_M`."""
STEP_M = 10
LEVELS = ("low", "medium", "high")

NOBODY: Mapping[str, Ints] = {}


@dataclass(frozen=True)
class Places:
    """From where the aerial pictures were taken.

    Attributes:
        kind: "altitude" or "camera".
        names: of the places, in their order.
        query: int64 [Q], place of each query, -1 for one from the ground.
        gallery: int64 [G], the same.
    """

    kind: str
    names: tuple[str, ...]
    query: Ints
    gallery: Ints


@dataclass(frozen=True)
class Outcome:
    """One protocol.

    Attributes:
        trial: with indices into the query and the gallery set.
        measures: of every valid query.
        whole: all of them together.
        without_camera: the same with the query's camera left out; None where that is no other
            number, because no query's camera is in the gallery.
        parts: "camera" or "altitude", and "cue", to parts by name; absent where nothing is known.
    """

    trial: Trial
    measures: Measures
    whole: Estimate
    without_camera: Estimate | None
    parts: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)


def outcomes(
    query: Embedded,
    gallery: Embedded,
    trials: Sequence[Trial],
    places: Places,
    cues: Mapping[str, Ints] = NOBODY,
) -> tuple[Ranked, tuple[Outcome, ...]]:
    """All of it; distances are computed once.

    Args:
        query: the query set.
        gallery: the gallery set.
        trials: with indices into both.
        places: where the drones were.
        cues: people by the cue that sets them apart, int64 numbers as in `Embedded.people`.

    Raises:
        InputError: when a distance is not finite.
    """
    ranked = rank(query, gallery, trials, groups=places.gallery)
    return ranked, tuple(_outcome(ranked, trial, places, cues) for trial in trials)


def outcomes_of(query: Embedded, gallery: Embedded) -> tuple[Outcome, ...]:
    """The protocols of two views on two sets of which nothing else is known.

    Raises:
        InputError: when a distance is not finite.
    """
    trials = two_views(query.aerial, gallery.aerial)
    return outcomes(query, gallery, trials, places_of(query, gallery))[1]


def _outcome(ranked: Ranked, trial: Trial, places: Places, cues: Mapping[str, Ints]) -> Outcome:
    measures = ranked.measure(trial)
    without = None
    asking, searched = (
        np.unique(ranked.query.cameras[trial.query]),
        np.unique(ranked.gallery.cameras[trial.gallery]),
    )
    if not trial.domains and np.isin(asking, searched).any():
        without = estimate(ranked.measure(trial, without_camera=True))
    parts: dict[str, dict[str, Estimate]] = {}
    if across(ranked, trial):
        found = _by_place(ranked, trial, measures, places)
        parts[places.kind] = {name: estimate(part) for name, part in found.items()}
        by_cue = {
            name: measures.where(np.isin(measures.people, people)) for name, people in cues.items()
        }
        parts["cue"] = {n: estimate(part) for n, part in by_cue.items() if part.query.size}
    known = {kind: several for kind, several in parts.items() if several}
    return Outcome(trial, measures, estimate(measures), without, known)


def across(ranked: Ranked, trial: Trial) -> bool:
    """Whether a protocol searches one view for people seen in the other."""
    asks, searched = ranked.query.aerial[trial.query], ranked.gallery.aerial[trial.gallery]
    if not (asks.size and searched.size):
        return False
    return bool(asks.all() and not searched.any()) or bool(not asks.any() and searched.all())


def _by_place(
    ranked: Ranked, trial: Trial, measures: Measures, places: Places
) -> dict[str, Measures]:
    asks_from_air = bool(ranked.query.aerial[trial.query].all())
    found = {}
    for number, name in enumerate(places.names):
        if asks_from_air:
            part = measures.where(places.query[measures.query] == number)
        else:
            part = ranked.measure(trial, searched=places.gallery == number)
        if part.query.size:
            found[name] = part
    return found


def places_of(
    query: Embedded,
    gallery: Embedded,
    query_altitude_m: Doubles | None = None,
    gallery_altitude_m: Doubles | None = None,
) -> Places:
    """By altitude where it is known of every aerial picture, else by aerial camera.

    A camera that keeps one altitude of its own is named by both.

    Args:
        query: the query set.
        gallery: the gallery set.
        query_altitude_m: float64 [Q] metres above ground, NaN where unknown.
        gallery_altitude_m: float64 [G], the same.
    """
    aerial = np.concatenate([query.aerial, gallery.aerial])
    cameras = np.concatenate([query.cameras, gallery.cameras])
    if query_altitude_m is None or gallery_altitude_m is None:
        altitudes = np.full(aerial.size, np.nan)
    else:
        altitudes = np.concatenate([query_altitude_m, gallery_altitude_m])
    if np.isnan(altitudes[aerial]).any() or not aerial.any():
        numbers = np.unique(cameras[aerial])
        return _places(
            "camera", cameras, aerial, [(c, f"camera {c}") for c in numbers.tolist()], query
        )
    metres = np.where(aerial, np.rint(altitudes), 0).astype(np.int64)
    pairs = np.unique(np.stack([cameras[aerial], metres[aerial]], 1), axis=0)
    if len(np.unique(pairs[:, 0])) == len(pairs):
        named = [(camera, f"camera {camera}, {up} m") for camera, up in pairs.tolist()]
        return _places("camera", cameras, aerial, named, query)
    levels = np.unique(metres[aerial])
    if levels.size <= MOST_ALTITUDES:
        return _places("altitude", metres, aerial, [(m, f"{m} m") for m in levels.tolist()], query)
    steps = metres // STEP_M
    named = [
        (s, f"{STEP_M * s} to {STEP_M * (s + 1)} m") for s in np.unique(steps[aerial]).tolist()
    ]
    return _places("altitude", steps, aerial, named, query)


def places_at_levels(
    query: Embedded, gallery: Embedded, query_level: Ints, gallery_level: Ints
) -> Places:
    """By the level that AG-ReID's file names state, which they do not put into metres.

    Args:
        query: the query set.
        gallery: the gallery set.
        query_level: int64 [Q], 0 low to 2 high; of ground pictures it does not matter.
        gallery_level: int64 [G], the same.
    """
    aerial = np.concatenate([query.aerial, gallery.aerial])
    levels = np.concatenate([query_level, gallery_level])
    known = dict(enumerate(LEVELS))
    named = [(n, known.get(n, f"level {n}")) for n in np.unique(levels[aerial]).tolist()]
    return _places("altitude", levels, aerial, named, query)


def _places(
    kind: str, keys: Ints, aerial: Bools, named: Sequence[tuple[int, str]], query: Embedded
) -> Places:
    place = np.full(keys.size, -1, np.int64)
    for number, (key, _) in enumerate(named):
        place[aerial & (keys == key)] = number
    asking = query.people.size
    return Places(kind, tuple(name for _, name in named), place[:asking], place[asking:])
