"""`skyreid-train fit` where the recipe is an embedder's."""

from __future__ import annotations

import sys
from argparse import Namespace

from skyreid.train import recipe
from skyreid.train.data import catalogue
from skyreid.train.data.records import joined, spelled
from skyreid.train.fit import setup
from skyreid.train.fit.curves import Board
from skyreid.train.fit.parallel import Crew


def fit(arguments: Namespace, crew: Crew, board: Board | None) -> str:
    """Train on the train split of one or more data sets; returns a line that says how it went.

    Raises:
        SkyreidError: the recipe, a data set, or what the training itself raises.
    """
    settings = recipe.read(arguments.recipe)
    told = catalogue.Told(ag_reid_c2=arguments.ag_reid_c2)
    data_sets = [catalogue.open(root, told=told) for root in arguments.data]
    print("; ".join(f"{data.title} in {data.root}" for data in data_sets), file=sys.stderr)
    reading = joined([data.train() for data in data_sets])
    for what, files in (("refused", reading.refused), ("left out", reading.left_out)):
        if files:
            print(f"{what}: {spelled(files)}", file=sys.stderr)
    outcome = setup.fit(
        settings,
        reading.records,
        arguments.out,
        cache=arguments.cache,
        start=arguments.start,
        clip=arguments.clip,
        teachers=arguments.teacher,
        refused=reading.refused,
        crew=crew,
        board=board,
    )
    return (
        f"{outcome.best} step {outcome.best_step}, held-out (R1 + mAP) / 2 "
        f"{100 * outcome.best_score:.1f} %, {outcome.pictures_per_s:.0f} pictures/s"
    )
