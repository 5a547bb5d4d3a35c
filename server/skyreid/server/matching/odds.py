"""From pair tables and embeddings to the posterior odds of any grouping, calibrated in place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from skyreid.contract.identity_event import Evidence, LinkState, Match, TrackKey
from skyreid.server.matching.clustering import odds
from skyreid.server.matching.identity import State
from skyreid.server.matching.likelihood import (
    APPEARANCE_MAX,
    Bool,
    Float64,
    Int64,
    Normals,
    appearance_llr,
    calibrate,
    centred,
    prior_of,
    view_pair,
)
from skyreid.server.matching.pairs import NONE, PLACE, TIME, Tables
from skyreid.server.matching.tracklets import Tracklet

CENTRING = 5.0
"""Tracklets that weigh as much as the mean one level up (see ``likelihood.centred``)."""
PRIOR_PAIRS = 30.0
"""How many pairs a prior of the score calibration is worth."""
QUIET = 0.05
"""Weight of a pair that nothing but looks and lapse of time speaks about, against one whose
places can be compared: in a group the latter know better."""


@dataclass(frozen=True, eq=False)
class Scores:
    """All pairs of N tracklets; every array is [N, N]."""

    tracklets: Sequence[Tracklet]
    tables: Tables
    similarity: Float64
    appearance: Float64
    """Log-likelihood ratio of the looks."""
    prior: Float64
    """Log of how few of the people here the pair could be by place alone; negative."""
    weight: Float64
    """How much a pair has to say where there are several."""

    @property
    def evidence(self) -> Float64:
        """Log-likelihood ratio of looks and place together."""
        return self.appearance + self.tables.llr

    @property
    def forbidden(self) -> Bool:
        """Pairs that cannot be one person."""
        return self.tables.forbidden

    @cached_property
    def index(self) -> dict[TrackKey, int]:
        """Row of each tracklet."""
        return {t.key: i for i, t in enumerate(self.tracklets)}

    def groups(self, state: State) -> dict[str, Int64]:
        """Rows of each identity that has any here; in order of the identities' ids."""
        found: dict[str, list[int]] = {}
        for i, tracklet in enumerate(self.tracklets):
            name = state.tracks.get(tracklet.key)
            if name is not None:
                found.setdefault(name, []).append(i)
        return {name: np.array(found[name], np.int64) for name in sorted(found)}

    def company(self, state: State) -> Float64:
        """[N, N] 1 for pairs that are in one identity now, else 0."""
        together = np.zeros((len(self.tracklets), len(self.tracklets)))
        for rows in self.groups(state).values():
            together[np.ix_(rows, rows)] = 1.0
        return together

    def link(self, key: TrackKey, rows: Int64) -> float:
        """Log posterior odds that a tracklet belongs with a group; -inf if it cannot."""
        i = self.index[key]
        rows = rows[rows != i]
        if not len(rows) or self.tables.forbidden[i, rows].any():
            return -math.inf
        evidence = self.appearance[i, rows] + self.tables.llr[i, rows]
        return odds(evidence, self.prior[i, rows], self.weight[i, rows])

    def match(self, key: TrackKey, rows: Int64, fpir: float) -> Match:
        """The stated reason for a link: its posterior, and the evidence of its clearest pair."""
        i = self.index[key]
        rows = rows[rows != i]
        log_odds = self.link(key, rows)
        t = self.tables
        if len(rows) and not (t.llr[i, rows] > 0).any():
            # Looks alone: many pairs of them are still one kind of evidence, and bounded as one.
            log_odds = min(log_odds, APPEARANCE_MAX + float(self.prior[i, rows].mean()))
        speaking = (self.appearance[i, rows] + t.llr[i, rows]) * np.sqrt(self.weight[i, rows])
        j = int(rows[np.argmax(speaking)])
        evidence = [
            Evidence("appearance", _short(self.appearance[i, j]), _short(self.similarity[i, j]))
        ]
        if t.kind[i, j] == PLACE:
            evidence.append(Evidence("place", _short(t.llr[i, j]), _short(t.measure[i, j])))
        elif t.kind[i, j] == TIME:
            evidence.append(Evidence("time", _short(t.llr[i, j]), _short(t.measure[i, j])))
        if np.isinf(t.clock_s[i, j]):
            evidence.append(Evidence("clock", 0.0))
        elif t.clock_s[i, j] > 0 or t.kind[i, j] == TIME:
            evidence.append(Evidence("clock", 0.0, _short(t.clock_s[i, j])))
        evidence.append(Evidence("prior", _short(self.prior[i, j])))
        probability = 1 / (1 + math.exp(-max(min(log_odds, 50.0), -50.0)))
        state: LinkState = "accepted" if probability >= accept_from(fpir) else "tentative"
        return Match(state, _short(probability), self.tracklets[j].key, tuple(evidence))


def accept_from(fpir: float) -> float:
    """The posterior from which a link is accepted and not only tentative."""
    return 1 / (1 + fpir)


def score_window(
    tracklets: Sequence[Tracklet], tables: Tables, priors: Mapping[str, Normals]
) -> Scores:
    """Score all pairs of ``tracklets`` (in the order of ``tables``)."""
    count = len(tracklets)
    cameras = _numbered([(t.key.device, t.key.camera) for t in tracklets])
    views = np.array([int(t.view) for t in tracklets], np.int64)
    similarity = _similarity(tracklets, cameras, views)
    appearance = np.zeros((count, count))
    words = {int(t.view): t.view.word for t in tracklets}
    apart = cameras[:, None] != cameras[None]
    upper = np.triu(np.ones((count, count), np.bool_), 1)
    sure = (tables.kind == PLACE) & apart & upper
    same = sure & (tables.llr >= 3.0) & (tables.shared_s >= 2.0)
    different = (sure & (tables.llr <= -3.0)) | (tables.together & upper)
    for a in sorted(words):
        for b in [v for v in sorted(words) if v >= a]:
            of_pair = (views[:, None] == a) & (views[None] == b)
            of_pair |= of_pair.T
            normals = calibrate(
                similarity,
                different & of_pair,
                same & of_pair,
                similarity[different],
                prior_of(priors, view_pair(words[a], words[b])),
                pairs=PRIOR_PAIRS,
            )
            appearance[of_pair] = appearance_llr(similarity[of_pair], normals)
    prior = _prior(tracklets, tables)
    weight = np.full((count, count), QUIET)
    placed = tables.kind != NONE
    unseen_s = tables.clock_s + np.where(tables.kind == TIME, tables.measure, 0.0)
    weight[placed] += (1 - QUIET) * np.exp(-unseen_s[placed] / 2.0)
    return Scores(
        tracklets,
        tables,
        similarity,
        appearance,
        prior,
        weight,
    )


def _similarity(tracklets: Sequence[Tracklet], cameras: Int64, views: Int64) -> Float64:
    """Cosines of centred embeddings; 0 across models, which say nothing of each other."""
    count = len(tracklets)
    models = _numbered([(t.model_key, len(t.sighting.embedding)) for t in tracklets])
    similarity = np.zeros((count, count))
    for model in np.unique(models):
        rows = np.flatnonzero(models == model)
        vectors = np.stack([tracklets[int(i)].sighting.embedding for i in rows]).astype(np.float64)
        unit = centred(vectors, cameras[rows], views[rows], CENTRING)
        similarity[np.ix_(rows, rows)] = unit @ unit.T
    return similarity


def _prior(tracklets: Sequence[Tracklet], tables: Tables) -> Float64:
    """-log of the number of people each pair has to be told from.

    About as many people are here as the fullest moment of a camera shows; of them, those count
    whom place does not exclude.
    """
    if not tracklets:
        return np.zeros((0, 0))
    people = 1 + max(int(tables.together.sum(1).max()), 1)
    open_to = np.exp(np.minimum(tables.llr, 0.0)) * ~tables.forbidden
    np.fill_diagonal(open_to, 0.0)
    share = open_to.sum(1) / max(len(tracklets) - 1, 1)
    rivals = 1 + people * share  # [N]
    prior: Float64 = -0.5 * (np.log(rivals)[:, None] + np.log(rivals)[None])
    return prior


def _numbered(names: Sequence[object]) -> Int64:
    order = {name: i for i, name in enumerate(sorted(set(names), key=str))}
    return np.array([order[name] for name in names], np.int64)


def _short(value: float) -> float:
    return round(float(value), 4)
