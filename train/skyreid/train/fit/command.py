"""`skyreid-train fit` where the recipe is an embedder's."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from skyreid.train import recipe
from skyreid.train.data import catalogue, summary
from skyreid.train.data.catalogue import Told
from skyreid.train.data.records import Reading, joined, spelled
from skyreid.train.fit import dry_run, setup
from skyreid.train.fit.curves import Board
from skyreid.train.fit.parallel import Crew


def read(roots: Sequence[Path], told: Told, aloud: bool) -> Reading:
    """The training splits of data sets, of which a report is printed where `aloud`.

    Raises:
        InputError: a data set cannot be used.
    """
    data_sets = [catalogue.open(root, told=told) for root in roots]
    readings = [data.train() for data in data_sets]
    for data, reading in zip(data_sets, readings, strict=True):
        if not aloud:
            break
        print(f"{data.title} in {data.root}:", file=sys.stderr)
        said = summary.lines(reading.records, data.cameras)
        for what, files in (("refused", reading.refused), ("left out", reading.left_out)):
            said += [f"{what}: {spelled(files)}"] if files else []
        if data.unused:
            said.append(f"columns that say nothing here: {', '.join(data.unused)}")
        print("\n".join(f"  {line}" for line in said), file=sys.stderr)
    return joined(readings)


def fit(arguments: Namespace, crew: Crew, board: Board | None) -> str:
    """Train on the train split of one or more data sets; returns a line that says how it went.

    Raises:
        SkyreidError: the recipe, a data set, or what the training itself raises.
    """
    settings = recipe.read(arguments.recipe, arguments.overrides)
    setup.check(
        settings, crew, arguments.start, arguments.clip, arguments.teacher, arguments.workers
    )
    reading = read(arguments.data, catalogue.told(arguments), crew.first)
    if arguments.dry_run:
        return dry_run.cost(settings, reading.records, crew, arguments.workers).said
    outcome = setup.fit(
        settings,
        reading.records,
        arguments.out,
        cache=arguments.cache,
        start=arguments.start,
        clip=arguments.clip,
        teachers=arguments.teacher,
        workers=arguments.workers,
        refused=reading.refused,
        crew=crew,
        board=board,
    )
    if not settings.run.held_out_people:
        return f"{outcome.best} step {outcome.best_step}, nobody held out, " + (outcome.speed)
    return (
        f"{outcome.best} step {outcome.best_step}, held-out (R1 + mAP) / 2 "
        f"{100 * outcome.best_score:.1f} %, {outcome.speed}"
    )
