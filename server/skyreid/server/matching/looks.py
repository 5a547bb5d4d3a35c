"""What people look like, in numbers: less what their camera adds, and what cosines then say.

A cosine says something only beside the curve of how it came about: one for each pair of ways in
which people are seen, from above or not, in colour or without. Every curve begins with what a
bundle's manifest says and is learned from the site's own pairs that are known for other reasons
than looks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from skyreid.contract.identity_event import Evidence
from skyreid.server.matching.likelihood import (
    PLACE,
    Bool,
    Float32,
    Float64,
    Int64,
    Tables,
    in_turn,
)
from skyreid.server.matching.priors import Normals, pair_of, priors_of
from skyreid.server.matching.telling import SEEN_LEAST, tells_nobody
from skyreid.server.matching.tracklets import Window

ODD_LOOKS = 0.02
"""How often one person looks like a stranger: somebody else in the box, another light; its
logarithm is the most that looks say against a pair."""
LOOK_ALIKES = 0.01
"""Believed part of the strangers who are look-alikes before any was seen at a site; their cosines
are ``ALIKE_AT`` of the way from strangers' to one person's, give or take ``ALIKE_WIDTH`` of it."""
ALIKE_AT, ALIKE_WIDTH = 0.6, 0.3
CHECKED_PAIRS = 50.0
"""How many pairs of strangers of a site that is worth."""
RARE = 5e-4
"""Nothing is believed to be rarer among strangers, unless more of them were seen."""
CENTRING = 5.0
"""Tracklets that weigh as much as the mean one level up (see ``likelihood.shifts``)."""
PRIOR_PAIRS = 30.0
"""How many pairs a prior of the score calibration is worth."""
STRANGERS = 16384
"""Pairs of tracklets of one camera that looks are held against, at most."""


def shifts(
    embeddings: Float32, models: Int64, views: Int64, cameras: Int64, strength: float
) -> dict[tuple[int, int, int], Float64]:
    """What to take from embeddings: the mean look of their camera.

    A camera's light and angle shift all its embeddings alike, which makes strangers in one camera
    alike and one person in two cameras different. With few tracklets the mean is mostly the
    persons themselves, so it is shrunk: towards its view's mean, and that towards nothing.

    Args:
        embeddings: [N, D], L2-normalised.
        models: [N] a number per model; of two models nothing is in common.
        views: [N] a number per view.
        cameras: [N] a number per camera.
        strength: tracklets that weigh as much as the mean one level up.

    Returns:
        float64 [D] by (model, view, camera); by (model, view, -1) of the view as a whole
    """
    found: dict[tuple[int, int, int], tuple[Float64, int]] = {}
    names, which = np.unique(np.stack([models, views, cameras], 1), axis=0, return_inverse=True)
    order = np.argsort(which.reshape(-1), kind="stable")
    counts = np.bincount(which.reshape(-1), minlength=len(names))
    ends = np.cumsum(counts)
    for (model, view, camera), end, count in zip(names.tolist(), ends, counts, strict=True):
        total = embeddings[order[end - count : end]].sum(0, dtype=np.float64)
        found[model, view, camera] = total, int(count)
        above, many = found.get((model, view, -1), (np.zeros(len(total)), 0))
        found[model, view, -1] = above + total, many + int(count)
    out: dict[tuple[int, int, int], Float64] = {}
    for (model, view, camera), (total, number) in found.items():
        above, many = found[model, view, -1]
        of_view = above / (many + strength)
        shrunk = (total + strength * of_view) / (number + strength)
        out[model, view, camera] = of_view if camera < 0 else shrunk
    return out


def calibrate(
    similarity: Float64,
    different: Bool,
    same: Bool,
    strangers: Float64,
    prior: Normals,
    *,
    pairs: float,
) -> Normals:
    """The two normals of a curve, from pairs that are known for other reasons than looks.

    Args:
        similarity: [P] cosines of pairs.
        different: [P] those of the curve that are certainly or very probably different people.
        same: [P] those of it that place says are one person.
        strangers: cosines of pairs of all views that are different people. Without poses only
            pairs inside one camera are known to be; once centred, those across views are like them.
        prior: believed before any pair was seen; for ``same`` relative to ``different``, since
            scales differ between sites.
        pairs: how many pairs the level above is worth.
    """
    d_mean, d_std = _blend(strangers, prior.different_mean, prior.different_std, pairs)
    d_mean, d_std = _blend(similarity[different], d_mean, d_std, pairs)
    # Where "same" stands between "different" and 1, as the prior has it.
    expected = 1 - (1 - prior.same_mean) * (1 - d_mean) / (1 - prior.different_mean)
    s_mean, s_std = _blend(similarity[same], expected, prior.same_std, pairs)
    s_mean = max(s_mean, d_mean + 0.5 * d_std)  # looks never count backwards
    pooled = float(np.sqrt((s_std**2 + d_std**2) / 2))
    # One width for both: with two, the ratio turns round in the tails.
    return Normals(s_mean, pooled, d_mean, pooled)


def _blend(values: Float64, mean: float, std: float, strength: float) -> tuple[float, float]:
    n = len(values)
    blended = (float(values.sum()) + strength * mean) / (n + strength)
    spread = float(((values - blended) ** 2).sum()) + strength * (std**2 + (mean - blended) ** 2)
    return blended, max(float(np.sqrt(spread / (n + strength))), 0.02)


@dataclass(frozen=True, eq=False)
class Looks:
    """What cosines of one curve say, and what that has been held against."""

    normals: Normals
    strangers: Float64
    """Cosines of pairs that are known to be two people, ascending."""
    worth: float
    """So many of those pairs are different ones."""
    blind: bool = False
    """Nobody can be told apart by looks here: they say nothing (``telling``)."""

    @property
    def checked(self) -> float:
        """What they can come to by the strangers that were seen, and one odd pair in fifty."""
        return float(np.log((CHECKED_PAIRS + self.worth) * (1 - ODD_LOOKS)))

    def share(self, similarity: Float64) -> Float64:
        """Part of the strangers who look as alike or more; any shape."""
        below = np.searchsorted(self.strangers, similarity.ravel(), "left")
        count = len(self.strangers)
        return ((count - below) / max(count, 1)).reshape(similarity.shape)

    def odd(self, similarity: Float64) -> Float64:
        """Part of the strangers who look as alike, as far as is known; any shape."""
        n = self.normals
        apart = n.same_mean - n.different_mean
        by = (similarity - n.different_mean - ALIKE_AT * apart) / (ALIKE_WIDTH * apart)
        believed = np.maximum(LOOK_ALIKES * ndtr(-by), RARE)
        seen = CHECKED_PAIRS * believed + self.worth * self.share(similarity)
        out: Float64 = np.maximum(seen / (CHECKED_PAIRS + self.worth), 1 / (1 / RARE + self.worth))
        return out

    def says(self, similarity: Float64) -> tuple[Float64, Float64]:
        """Log-likelihood ratios of cosines of any shape, and the most that those can come to.

        Two normals, but some strangers look alike (``odd``), and some tracklets of one person do
        not: a share ``ODD_LOOKS`` of them is as strangers are.
        """
        if self.blind:
            return np.zeros(similarity.shape), np.zeros(similarity.shape)
        n, odd = self.normals, self.odd(similarity)
        same = np.exp(-0.5 * ((similarity - n.same_mean) / n.same_std) ** 2) / n.same_std
        other = np.exp(-0.5 * ((similarity - n.different_mean) / n.different_std) ** 2)
        other /= n.different_std
        tiny = 1e-30  # far from both, nothing is known
        llr = np.log(
            ((1 - ODD_LOOKS) * same + ODD_LOOKS * other + tiny)
            / ((1 - odd) * other + odd * same + tiny)
        )
        most = -np.log(odd)
        return np.minimum(llr, most), most

    def llr(self, similarity: Float64) -> Float64:
        """The former of what it ``says``."""
        return self.says(similarity)[0]


class Appearance:
    """The looks of a window's rows, and the curves that say what their cosines mean.

    Who was here while a camera went over to infrared has looks of both kinds. Two rows are compared
    in colour where both have that, else without where both have that, else one with the other.
    """

    def __init__(self, window: Window, priors: Mapping[str, Normals]) -> None:
        self._window = window
        self._priors = priors_of(priors)
        self._unit: Float32 = np.zeros((0, 1, 1), np.float32)
        """[rows, L, D] as the window's vectors, less the mean look of their camera."""
        self._shift: dict[tuple[int, int, int], Float64] = {}
        self._curves: dict[tuple[int, int], Looks] = {}

    @property
    def uninformative(self) -> tuple[str, ...]:
        """Pairs of views in which looks tell nobody apart, as far as place knows who is who."""
        blind = {pair_of(*pair) for pair, curve in self._curves.items() if curve.blind}
        return tuple(sorted(blind))

    def fit(self) -> None:
        """Have room for as many rows as the window."""
        more = np.subtract(self._window.vectors.shape, self._unit.shape)
        if more.any():
            self._unit = np.pad(self._unit, [(0, m) for m in more])

    def centre(self, rows: Int64) -> None:
        """Learn anew what to take from the embeddings of these rows: all that are here."""
        self._shift = {}
        for grey in range(self._window.vectors.shape[1]):
            some, facts, seen = self._with(rows, grey)
            vectors = self._window.vectors[some, grey]
            self._shift |= shifts(vectors, facts["model"], seen, facts["eye"], CENTRING)
        self.take(rows)

    def take(self, rows: Int64) -> None:
        """See to rows that are new."""
        self._unit[rows] = 0
        for grey in range(self._window.vectors.shape[1]):
            some, facts, seen = self._with(rows, grey)
            unit = self._window.vectors[some, grey].astype(np.float64)
            names = np.stack([facts["model"], seen, facts["eye"]], 1)
            kinds, which = np.unique(names, axis=0, return_inverse=True)
            which = which.reshape(-1)
            for number, (model, way, eye) in enumerate(kinds.tolist()):
                # A camera that is new since: less the mean of its view, until more is learned.
                shift = self._shift.get((model, way, eye), self._shift.get((model, way, -1)))
                if shift is not None:
                    unit[which == number, : len(shift)] -= shift
            length = np.linalg.norm(unit, axis=1, keepdims=True)
            self._unit[some, grey] = unit / np.maximum(length, 1e-9)

    def alike(self, rows: Int64, among: Int64) -> Float32:
        """[len(rows), len(among)] cosines of each with each, whatever model they are of."""
        table: Float32 = self._unit[rows, 0] @ self._unit[among, 0].T
        if self._unit.shape[1] > 1:
            one, two = self._compared(rows[:, None], among[None])
            for a, b in ((0, 1), (1, 0), (1, 1)):
                of = (one == a) & (two == b)
                if of.any():
                    table[of] = (self._unit[rows, a] @ self._unit[among, b].T)[of]
        return table

    def similarity(self, a: Int64, b: Int64) -> Float64:
        """[P] cosines of pairs of rows; 0 across models, which say nothing of each other."""
        models = self._window.facts["model"]
        cosines = self._cosines(a, b)
        cosines[models[a] != models[b]] = 0.0
        return cosines

    def says(
        self, a: Int64, b: Int64, similarity: Float64, unrelated: Bool
    ) -> tuple[Float64, Float64]:
        """Log-likelihood ratios of pairs of rows [P], and the most that looks can come to.

        Args:
            a: [P] one row of each.
            b: [P] the other.
            similarity: [P] their cosines.
            unrelated: [P] nobody knows among whom they were seen: only what was seen is sure.
        """
        models, appearance, most = self._window.facts["model"], np.zeros(len(a)), np.zeros(len(a))
        low, high = self._seen(a, b)
        for (one, two), curve in self._curves.items():
            of_pair = (low == one) & (high == two)
            appearance[of_pair], most[of_pair] = curve.says(similarity[of_pair])
            most[of_pair & unrelated] = np.minimum(most[of_pair & unrelated], curve.checked)
        alien = models[a] != models[b]
        appearance[alien] = most[alien] = 0.0
        return np.minimum(appearance, most), most

    def evidence(self, a: int, b: int, llr: float, cosine: float) -> Evidence:
        """What is said of the looks of two rows."""
        models = self._window.facts["model"]
        low, high = self._seen(np.array([a]), np.array([b]))
        curve = self._curves.get((int(low[0]), int(high[0])))
        if curve is None or models[a] != models[b] or not curve.worth:
            return Evidence("appearance", short(llr), short(cosine))
        alike = curve.worth * float(curve.share(np.array([cosine]))[0])
        said = round(curve.worth), math.ceil(alike)
        return Evidence("appearance", short(llr), short(cosine), *said)

    def learn(self, rows: Int64, a: Int64, b: Int64, tables: Tables, told_apart: int) -> None:
        """Learn the curves.

        Args:
            rows: all that are here.
            a: [P] one row of each of some pairs.
            b: [P] the other.
            tables: what is known of the pairs but for looks.
            told_apart: people who were here, at least.
        """
        facts = self._window.facts
        similarity = self._cosines(a, b)
        alike = facts["model"][a] == facts["model"][b]
        apart = (facts["eye"][a] != facts["eye"][b]) & (tables.kind == PLACE)
        same = alike & apart & (tables.llr >= 3.0) & (tables.shared_s >= 2.0)
        different: Bool = alike & ((apart & (tables.llr <= -3.0)) | tables.forbidden)
        low, high = self._seen(a, b)
        # Who are seen at once by one camera: of n people so many pairs, however many tracklets.
        at, to = in_turn(facts["camera"][rows], facts["first_ns"][rows], STRANGERS)
        at, to = rows[at], rows[to]
        known = self._window.at_once(at, to) & (facts["model"][at] == facts["model"][to])
        at, to = at[known], to[known]
        apart_cosines = self._cosines(at, to)
        of_at, of_to = self._seen(at, to)
        ways = {2 * view + grey for view in {*facts["view"][rows].tolist()} for grey in self._greys}
        self._curves = {}
        for one, two in combinations_with_replacement(sorted(ways), 2):
            # Of a pair in colour and grey nothing is learned from those that both are in colour.
            greys = one % 2 + two % 2
            beside = (of_at % 2 + of_to % 2) == greys
            of_camera = int(np.bincount(facts["camera"][at[beside]], minlength=1).max())
            worth = float(min(of_camera, told_apart * (told_apart - 1) // 2))
            strangers = similarity[different & ((low % 2 + high % 2) == greys)]
            of_pair = (low == one) & (high == two)
            d, s, prior = different & of_pair, same & of_pair, self._priors[one, two]
            normals = calibrate(similarity, d, s, strangers, prior, pairs=PRIOR_PAIRS)
            own = similarity[d]
            checked = np.sort(own if len(own) >= worth else apart_cosines[beside])
            blind = int(s.sum()) >= SEEN_LEAST and tells_nobody(similarity[s], checked, a[s], b[s])
            self._curves[one, two] = Looks(normals, checked, worth, blind)

    @property
    def _greys(self) -> range:
        """Which kinds of looks anybody here has: in colour (0), without (1)."""
        return range(self._unit.shape[1])

    def _with(self, rows: Int64, grey: int) -> tuple[Int64, NDArray[np.void], Int64]:
        """Of some rows those with looks of a kind; their facts, and how they are seen."""
        facts = self._window.facts[rows]
        there = (facts["known"] >> grey & 1) == 1
        return rows[there], facts[there], 2 * facts["view"][there] + grey

    def _compared(self, a: Int64, b: Int64) -> tuple[Int64, Int64]:
        """Which looks of two rows are compared: 0 in colour, 1 without."""
        one, two = (self._window.facts["known"][rows] for rows in (a, b))
        both = one & two
        alike = np.where(both & 1, 0, 1)
        none = both == 0
        return np.where(none, 1 - (one & 1), alike), np.where(none, 1 - (two & 1), alike)

    def _cosines(self, a: Int64, b: Int64) -> Float64:
        one, two = self._compared(a, b) if self._unit.shape[1] > 1 else (0, 0)
        cosines = np.einsum("ij,ij->i", self._unit[a, one], self._unit[b, two])
        return np.asarray(cosines, np.float64)

    def _seen(self, a: Int64, b: Int64) -> tuple[Int64, Int64]:
        """[P] how the two of each pair are seen (``priors.seen_as``), the lesser first."""
        views = self._window.facts["view"]
        one, two = self._compared(a, b)
        one, two = 2 * views[a] + one, 2 * views[b] + two
        return np.minimum(one, two), np.maximum(one, two)


def short(value: float) -> float:
    """A number as it is told."""
    return round(float(value), 4)
