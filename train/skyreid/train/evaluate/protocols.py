"""A model on the test split of a data set: every protocol, with what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skyreid.contract.errors import InputError
from skyreid.train.data import catalogue, pictures, trials
from skyreid.train.data.catalogue import DataSet
from skyreid.train.data.records import ByReason, Record, View, joined, merged
from skyreid.train.data.trials import TestSet, Trial
from skyreid.train.evaluate import cues, open_set, rerank, tables, tracklets
from skyreid.train.evaluate.bootstrap import Difference, difference, estimate
from skyreid.train.evaluate.breakdown import Outcome, Places, outcomes, places_at_levels, places_of
from skyreid.train.evaluate.embedding import (
    Embed,
    Floats,
    Opened,
    UInt8,
    in_grey,
    numbered,
    open_model,
    read_and_embed,
)
from skyreid.train.evaluate.metrics import Embedded, Ints, Ranked, rank

if TYPE_CHECKING:
    from skyreid.bundle.manifest import NumericFormat


FLIPPED, GREY, RE_RANKED = "flip", "in grey", "re-ranked"
"""Behind the names of protocols that are searched so."""


@dataclass(frozen=True)
class Ways:
    """Ways of searching that no published row has; their rows are called so.

    Attributes:
        flip: embed each picture and its mirror image.
        grey: embed each picture as a grey camera would have taken it.
        re_rank: rank by k-reciprocal neighbours too.
        open_set: ask for people who are not in the gallery, too.
    """

    flip: bool = False
    grey: bool = False
    re_rank: bool = False
    open_set: bool = False

    @property
    def suffix(self) -> str:
        """Behind the names of all rows."""
        return f"{' ' + FLIPPED if self.flip else ''}{' ' + GREY if self.grey else ''}"


@dataclass(frozen=True)
class Report:
    """What the test split of a data set gave.

    Attributes:
        data: the data set.
        model: digest and numeric format by path.
        records: the pictures that could be read.
        query: indices into `records` of the query set that `outcomes` refer to.
        gallery: indices into `records` of the gallery set.
        refused: files that were refused or left out, by reason.
        ranked: both sets embedded, and how they rank.
        outcomes: of every protocol.
        against: another model that it was held against, as `model`; none is usual.
        gained: what it gains over that one on the same pictures, by protocol.
        seen: people of `records` whom the model was fitted on, or chosen by.
        re_ranked: of every protocol once more, where that was asked for.
        missed: in open sets, where that was asked for.
        pictures: that were read; more than `records` where those are of tracklets.
    """

    data: DataSet
    model: dict[str, str]
    records: tuple[Record, ...]
    query: Ints
    gallery: Ints
    refused: ByReason
    ranked: Ranked
    outcomes: tuple[Outcome, ...]
    against: Mapping[str, str] = field(default_factory=dict)
    gained: Mapping[str, Difference] = field(default_factory=dict)
    pictures: int = 0
    seen: tuple[str, ...] = ()
    re_ranked: tuple[Outcome, ...] = ()
    missed: tuple[open_set.Missed, ...] = ()

    @property
    def people(self) -> int:
        return len({r.person for r in self.records})


def report(
    models: Sequence[Path],
    data: Path,
    numeric_format: NumericFormat | None = None,
    against: Sequence[Path] = (),
    told: catalogue.Told = catalogue.NOTHING,
    ways: Ways = Ways(),
) -> Report:
    """Every protocol that a data set is published with, on its test split.

    Args:
        models: one checkpoint, or bundles that are one model.
        data: folder of a data set that `catalogue` knows.
        numeric_format: as in `open_model`, of either model.
        against: another model, likewise, to compare it with.
        told: of the data set, see `catalogue.open`.
        ways: to search beside the published one.

    Raises:
        InputError: when a model or the data cannot be used.
    """
    found = catalogue.open(data, told=told)
    test = found.test()
    views = {r.view for r in test.records}
    opened = open_model(models, views, numeric_format)
    other = open_model(against, views, numeric_format) if against else None
    mine = _measured(found, test, opened, ways)
    if other is None:
        return mine
    theirs = _measured(found, test, other, ways)
    gained = {
        a.trial.name: difference(a.measures, b.measures)
        for a, b in zip(mine.outcomes, theirs.outcomes, strict=True)
    }
    return replace(mine, against=theirs.model, gained=gained)


def _measured(found: DataSet, test: TestSet, opened: Opened, ways: Ways) -> Report:
    if ways.flip:
        opened = replace(opened, embed=_with_mirror_image(opened.embed))
    if ways.grey:
        opened = replace(opened, embed=in_grey(opened.embed))
    everything, kept, unreadable = read_and_embed(opened, test.records, test.refused)
    left = trials.only(test, kept)
    pictures_read = len(left.records)
    if any(record.tracklet for record in left.records):
        everything, left = tracklets.pooled(everything, left)
    asking, searched = (
        np.unique(np.concatenate([getattr(t, part) for t in left.trials]))
        for part in ("query", "gallery")
    )
    local = [
        Trial(
            f"{t.name}{ways.suffix}",
            np.searchsorted(asking, t.query),
            np.searchsorted(searched, t.gallery),
            t.domains,
        )
        for t in left.trials
    ]
    query, gallery = everything.rows(asking), everything.rows(searched)
    places = _places(left.records, asking, searched, query, gallery)
    asked = {record.person for record in left.records}
    ranked, several = outcomes(query, gallery, local, places, _cues(found, left.records))
    return Report(
        found,
        opened.about,
        left.records,
        asking,
        searched,
        merged([test.refused, {pictures.UNREADABLE: unreadable}, test.left_out]),
        ranked,
        several,
        pictures=pictures_read,
        seen=tuple(sorted(asked & _seen(found, opened))),
        re_ranked=_re_ranked(query, gallery, local) if ways.re_rank else (),
        missed=tuple(open_set.missed(ranked, local, places)) if ways.open_set else (),
    )


def _with_mirror_image(embed: Embed) -> Embed:
    """The mean of what a picture and its mirror image give, of length 1."""

    def both(images: UInt8, view: View) -> Floats:
        rows = embed(images, view) + embed(np.ascontiguousarray(images[:, :, ::-1]), view)
        unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        return unit

    return both


def _re_ranked(query: Embedded, gallery: Embedded, several: Sequence[Trial]) -> tuple[Outcome, ...]:
    """Every protocol by itself: its own queries among its own gallery."""
    found = []
    for trial in several:
        if not (trial.query.size and trial.gallery.size):
            continue
        asking, searched = query.rows(trial.query), gallery.rows(trial.gallery)
        alone = Trial(
            f"{trial.name} {RE_RANKED}",
            np.arange(trial.query.size),
            np.arange(trial.gallery.size),
            trial.domains,
        )
        distances = rerank.re_ranked(asking.embeddings, searched.embeddings)
        measures = rank(asking, searched, [alone], distances=distances).measure(alone)
        found.append(Outcome(alone, measures, estimate(measures), None))
    return tuple(found)


def _seen(data: DataSet, opened: Opened) -> set[str]:
    """People of the data set's training split whom a model knows, by their names there."""
    if not opened.seen:
        return set()
    try:
        training = data.train()
    except InputError:
        return set()  # the test split alone is at hand
    return {
        before.person
        for before, after in zip(training.records, joined([training]).records, strict=True)
        if after.person in opened.seen
    }


def _places(
    records: Sequence[Record], asking: Ints, searched: Ints, query: Embedded, gallery: Embedded
) -> Places:
    """By what the data set states of altitudes, in metres or as a level; else by camera."""
    metres = np.asarray([np.nan if r.altitude_m is None else r.altitude_m for r in records])
    levels = np.asarray([-1 if r.altitude_level is None else r.altitude_level for r in records])
    aerial = np.asarray([r.view == "aerial" for r in records])
    if aerial.any() and (levels[aerial] >= 0).all():
        return places_at_levels(query, gallery, levels[asking], levels[searched])
    return places_of(query, gallery, metres[asking], metres[searched])


def _cues(data: DataSet, records: Sequence[Record]) -> dict[str, Ints]:
    """Numbers of the people of `records` by cue, where the data set tells."""
    numbers = numbered(records)
    told = {
        name: np.asarray(sorted(numbers[p] for p in people if p in numbers), np.int64)
        for name, people in cues.read(data.root).items()
    }
    return {name: people for name, people in told.items() if people.size}


def table(report: Report) -> str:
    """The report for people: tables in percent, what was ranked, by what, and what was left out."""
    lines = [tables.table(report.outcomes), ""]
    if report.re_ranked:
        lines += [tables.table(report.re_ranked), ""]
    if report.missed:
        lines += [open_set.table(report.missed), ""]
    if report.gained:
        lines += [tables.difference_table(report.gained), ""]
    lines += [
        f"{report.people} people, {report.query.size} query and {report.gallery.size} gallery "
        f"pictures of {report.data.title} in {report.data.root}",
    ]
    if report.pictures > len(report.records):
        lines.append(
            f"a picture stands for its tracklet: means of {report.pictures} pictures in "
            f"{len(report.records)} tracklets"
        )
    lines += [f"{path}: {what}" for path, what in report.model.items()]
    lines += [f"against {path}: {what}" for path, what in report.against.items()]
    lines += [*warnings(report), *refusals(report)]
    return "\n".join(lines)


def warnings(report: Report) -> list[str]:
    """A line for everything that makes the numbers another thing than they seem."""
    if not report.seen:
        return []
    some = ", ".join(report.seen[:3]) + (", ..." if report.seen[3:] else "")
    return [
        f"WARNING: the model was fitted on, or chosen by, {len(report.seen)} of these "
        f"{report.people} people ({some}): the numbers say nothing of strangers"
    ]


def refusals(report: Report) -> list[str]:
    """A line for every reason that kept pictures out."""
    return [
        f"{len(paths)} files not used by {reason}, first {paths[0]}"
        for reason, paths in report.refused.items()
        if paths
    ]
