"""A model on the test split of a data set: every protocol, with what it is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skyreid.train.data import catalogue, pictures, trials
from skyreid.train.data.catalogue import DataSet
from skyreid.train.data.records import ByReason, Record, merged
from skyreid.train.data.trials import TestSet, Trial
from skyreid.train.evaluate import cues, tables, tracklets
from skyreid.train.evaluate.bootstrap import Difference, difference
from skyreid.train.evaluate.breakdown import Outcome, Places, outcomes, places_at_levels, places_of
from skyreid.train.evaluate.embedding import Opened, numbered, open_model, read_and_embed
from skyreid.train.evaluate.metrics import Embedded, Ints, Ranked

if TYPE_CHECKING:
    from skyreid.bundle.manifest import NumericFormat


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

    @property
    def people(self) -> int:
        return len({r.person for r in self.records})


def report(
    models: Sequence[Path],
    data: Path,
    numeric_format: NumericFormat | None = None,
    against: Sequence[Path] = (),
    told: catalogue.Told = catalogue.NOTHING,
) -> Report:
    """Every protocol that a data set is published with, on its test split.

    Args:
        models: one checkpoint, or bundles that are one model.
        data: folder of a data set that `catalogue` knows.
        numeric_format: as in `open_model`, of either model.
        against: another model, likewise, to compare it with.
        told: of the data set, see `catalogue.open`.

    Raises:
        InputError: when a model or the data cannot be used.
    """
    found = catalogue.open(data, told=told)
    test = found.test()
    views = {r.view for r in test.records}
    opened = open_model(models, views, numeric_format)
    other = open_model(against, views, numeric_format) if against else None
    mine = _measured(found, test, opened)
    if other is None:
        return mine
    theirs = _measured(found, test, other)
    gained = {
        a.trial.name: difference(a.measures, b.measures)
        for a, b in zip(mine.outcomes, theirs.outcomes, strict=True)
    }
    return replace(mine, against=theirs.model, gained=gained)


def _measured(found: DataSet, test: TestSet, opened: Opened) -> Report:
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
            t.name,
            np.searchsorted(asking, t.query),
            np.searchsorted(searched, t.gallery),
            t.domains,
        )
        for t in left.trials
    ]
    query, gallery = everything.rows(asking), everything.rows(searched)
    places = _places(left.records, asking, searched, query, gallery)
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
    )


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
    lines += refusals(report)
    return "\n".join(lines)


def refusals(report: Report) -> list[str]:
    """A line for every reason that kept pictures out."""
    return [
        f"{len(paths)} files not used by {reason}, first {paths[0]}"
        for reason, paths in report.refused.items()
        if paths
    ]
