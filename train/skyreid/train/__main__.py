"""`skyreid-train`: fit a recipe, evaluate a checkpoint or bundle, make synthetic data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from skyreid.contract.errors import SettingsError, run_command
from skyreid.contract.version import add_version
from skyreid.train.data import catalogue
from skyreid.train.options import taken_out


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    return run_command(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    from skyreid.synth import command as synth

    parser = argparse.ArgumentParser(
        prog="skyreid-train",
        description="Fit a recipe, evaluate a checkpoint or bundle, make synthetic data.",
    )
    add_version(parser, "train")
    verbs = parser.add_subparsers(dest="verb", required=True)

    fit = verbs.add_parser(
        "fit",
        help="train a recipe",
        description=_fit.__doc__,
        epilog="--SECTION.KEY VALUE sets another value than the recipe's, as --run.steps 2000.",
    )
    fit.add_argument("recipe", type=Path, help="TOML file, see recipes/")
    fit.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="DIR",
        help="data sets, or own people: a folder, a pattern, a table, see docs/datasets.md; for a "
        "detector clips, and a stock of cut-outs",
    )
    _train_options(fit)
    fit.add_argument(
        "--teacher",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="checkpoints to distil, of people who are not held out",
    )
    fit.add_argument(
        "--dry-run",
        action="store_true",
        help="report the data, take a few steps and say what the run will cost; writes nothing",
    )
    fit.set_defaults(run=_fit)

    again = verbs.add_parser(
        "reproduce",
        help="train a paper's recipe and hold it against its row",
        description=_reproduce.__doc__,
        epilog="--SECTION.KEY VALUE sets another value than the recipe's, as --run.steps 2000.",
    )
    again.add_argument("method", help="visa, vdt, ...: one with a recipe for the data set")
    again.add_argument("--data", type=Path, nargs=1, required=True, metavar="DIR")
    _train_options(again)
    again.set_defaults(run=_reproduce, teacher=[], dry_run=False)

    evaluate = verbs.add_parser(
        "evaluate", help="rank the test split", description=_evaluate.__doc__
    )
    evaluate.add_argument(
        "models",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="a checkpoint (.safetensors), or the bundles of one model",
    )
    evaluate.add_argument("--data", type=Path, required=True, metavar="DIR")
    catalogue.add_options(evaluate)
    evaluate.add_argument(
        "--against",
        type=Path,
        nargs="+",
        metavar="MODEL",
        help="another model: also print how far the first is above it, and how sure that is",
    )
    evaluate.add_argument(
        "--format",
        choices=("fp32", "fp16", "int8"),
        help="of the bundles' models; default what a device with this processor would run",
    )
    evaluate.add_argument(
        "--flip",
        action="store_true",
        help="embed each picture and its mirror image: twice the time, and no published row",
    )
    evaluate.add_argument(
        "--grey",
        action="store_true",
        help="embed each picture as a grey camera would have taken it; its rows are called so",
    )
    evaluate.add_argument(
        "--re-rank",
        action="store_true",
        help="k-reciprocal re-ranking: no published row; its rows are called so",
    )
    evaluate.add_argument(
        "--open-set",
        action="store_true",
        help="also FNIR at FPIR .1, 1 and 10 %%, by size of the gallery and by altitude",
    )
    evaluate.add_argument(
        "--report", type=Path, metavar="DIR", help="write a page with curves and rank lists there"
    )
    evaluate.add_argument("--json", action="store_true", help="one JSON object on stdout")
    evaluate.set_defaults(run=_evaluate)

    altitude = verbs.add_parser(
        "altitude", help="make the table of skyreid-edge plan", description=_altitude.__doc__
    )
    altitude.add_argument("out", type=Path, metavar="OUT.json")
    altitude.add_argument("--detector", type=Path, required=True, metavar="BUNDLE")
    altitude.add_argument("--embedder", type=Path, required=True, metavar="BUNDLE")
    altitude.set_defaults(run=_altitude)

    measure = verbs.add_parser(
        "metrics", help="rank features from a file", description=_metrics.__doc__
    )
    measure.add_argument(
        "file",
        type=Path,
        metavar="FILE.npz",
        help="see skyreid.train.evaluate.features for its arrays",
    )
    measure.add_argument(
        "--aerial",
        nargs="*",
        metavar="CAMERA",
        help="the cameras that fly; alone, none does; default: the cameras are CARGO's",
    )
    measure.add_argument("--json", action="store_true", help="one JSON object on stdout")
    measure.set_defaults(run=_metrics)

    parity = verbs.add_parser(
        "parity", help="hold the models against the authors' code", description=_parity.__doc__
    )
    parity.add_argument("folder", type=Path, metavar="DIR", help="recorded outputs and key lists")
    parity.add_argument("--seed", type=int, required=True, help="of the fixtures' weights")
    parity.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parity.set_defaults(run=_parity)

    convert = verbs.add_parser(
        "convert", help="make a checkpoint of published weights", description=_convert.__doc__
    )
    convert.add_argument("source", type=Path, help=".safetensors, or tensors of torch.save")
    convert.add_argument("--to", required=True, metavar="VARIANT", help="vit-base, visa-base, ...")
    convert.add_argument("--out", type=Path, required=True, metavar="FILE", help=".safetensors")
    convert.add_argument(
        "--from", dest="origin", choices=("auto", "authors", "imagenet", "clip"), default="auto"
    )
    convert.add_argument(
        "--key", metavar="NAME", help="entry of the file with the weights, as state_dict_ema"
    )
    convert.add_argument("--height", type=int, default=256, help="pixels (default 256)")
    convert.add_argument("--width", type=int, default=128, help="pixels (default 128)")
    convert.add_argument("--people", type=int, help="classes of a new classifier (default 1)")
    convert.add_argument("--trunk", nargs="+", default=[], metavar="KEY=VALUE")
    convert.add_argument("--options", nargs="+", default=[], metavar="KEY=VALUE")
    convert.add_argument("--seed", type=int, default=0, help="of what begins at random")
    convert.add_argument("--json", action="store_true", help="one JSON object on stdout")
    convert.set_defaults(run=_convert)

    synth.add_parser(verbs)
    rest, overrides = taken_out(sys.argv[1:] if argv is None else argv)
    arguments = parser.parse_args(rest)
    if overrides and arguments.verb not in ("fit", "reproduce"):
        parser.error(f"{overrides[0]}: {arguments.verb} has no recipe")
    arguments.overrides = overrides
    code: int = arguments.run(arguments)
    return code


def _train_options(verb: argparse.ArgumentParser) -> None:
    """Of everything that trains an embedder."""
    catalogue.add_options(verb)
    verb.add_argument("--out", type=Path, required=True, metavar="DIR", help="for checkpoints")
    verb.add_argument("--cache", type=Path, metavar="DIR", help="for resized pictures; default OUT")
    verb.add_argument("--start", type=Path, metavar="FILE", help="checkpoint to begin with")
    verb.add_argument(
        "--clip", type=Path, metavar="FILE", help="OpenAI's CLIP, for the prompts of clip-reid"
    )
    verb.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    verb.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that augment pictures; they change no result; default beside a GPU the "
        "cores but one, at most 8, else 0",
    )
    verb.add_argument("--board", action="store_true", help="curves for TensorBoard in OUT/board")


def _reproduce(arguments: argparse.Namespace) -> int:
    """Train a method as its paper did, measure it, and print it beside the paper's row."""
    import logging

    from tqdm.contrib.logging import logging_redirect_tqdm

    from skyreid.train.fit import parallel
    from skyreid.train.fit.curves import Board
    from skyreid.train.fit.reproduce import reproduce

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with parallel.crew(arguments.device) as crew, logging_redirect_tqdm():
        board = Board(arguments.out / "board") if arguments.board and crew.first else None
        said = reproduce(arguments, crew, board)
    if crew.first:
        print(said)
    return 0


def _fit(arguments: argparse.Namespace) -> int:
    """Train an embedder on the train split of data sets, or a detector on clips.

    Test splits are never opened.
    """
    import logging

    from tqdm.contrib.logging import logging_redirect_tqdm

    from skyreid.train.detector import command as detector
    from skyreid.train.fit import command as embedder
    from skyreid.train.fit import parallel
    from skyreid.train.fit.curves import Board

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    fit = detector.fit if detector.is_recipe(arguments.recipe) else embedder.fit
    if arguments.dry_run and fit is detector.fit:
        raise SettingsError("--dry-run: is for embedders, and this recipe is a detector's")
    if arguments.workers is not None and fit is detector.fit:
        raise SettingsError("--workers: is for embedders, and this recipe is a detector's")
    with parallel.crew(arguments.device) as crew, logging_redirect_tqdm():
        board = Board(arguments.out / "board") if arguments.board and crew.first else None
        said = fit(arguments, crew, board)
    if crew.first:
        print(said)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    """Every protocol of the test split: CMC, mAP and mINP with 95 % intervals, and parts of it."""
    import json

    from skyreid.train.detector import command as detector
    from skyreid.train.evaluate import open_set, protocols, tables
    from skyreid.train.evaluate.protocols import Ways
    from skyreid.train.evaluate.report import folder

    if len(arguments.models) == 1 and detector.is_model(arguments.models[0]):
        return detector.evaluate(arguments)
    if arguments.report is not None:
        folder.prepare(arguments.report)
    report = protocols.report(
        arguments.models,
        arguments.data,
        arguments.format,
        arguments.against or (),
        catalogue.told(arguments),
        Ways(arguments.flip, arguments.grey, arguments.re_rank, arguments.open_set),
    )
    if arguments.json:
        for line in [*protocols.warnings(report), *protocols.refusals(report)]:
            print(line, file=sys.stderr)
        rows = tables.as_json([*report.outcomes, *report.re_ranked], report.gained)
        if report.missed:
            for name, several in open_set.as_json(report.missed).items():
                rows[name]["open_set"] = several
        print(json.dumps(rows, indent=2))
    else:
        print(protocols.table(report))
    if arguments.report is not None:  # last: pictures may fail to be read or written
        page = folder.write(report, arguments.report, _again(arguments))
        print(f"report: {page}", file=sys.stderr)
    tables.require_queries(report.outcomes)
    return 0


def _again(arguments: argparse.Namespace) -> str:
    """The command that gives the numbers of a report again."""
    import shlex

    words = ["skyreid-train", "evaluate", *arguments.models, "--data", arguments.data]
    if arguments.ag_reid_c2:
        words.append("--ag-reid-c2")
    if arguments.aerial is not None:
        words += ["--aerial", *arguments.aerial]
    if arguments.format is not None:
        words += ["--format", arguments.format]
    words += [
        f"--{way}"
        for way in ("flip", "grey", "re-rank", "open-set")
        if getattr(arguments, way.replace("-", "_"))
    ]
    if arguments.against:
        words += ["--against", *arguments.against]
    return shlex.join(map(str, words))


def _altitude(arguments: argparse.Namespace) -> int:
    """A detector's recall and an embedder's FNIR in the rendered world, by size and steepness."""
    from skyreid.train.evaluate import altitude

    altitude.write(arguments.out, arguments.detector, arguments.embedder)
    return 0


def _metrics(arguments: argparse.Namespace) -> int:
    """CMC, mAP and mINP of features in a file under every protocol, as evaluate prints them."""
    import json

    from skyreid.train.evaluate import features, tables
    from skyreid.train.evaluate.breakdown import outcomes_of

    found = outcomes_of(*features.read(arguments.file, arguments.aerial))
    print(json.dumps(tables.as_json(found), indent=2) if arguments.json else tables.table(found))
    tables.require_queries(found)
    return 0


def _parity(arguments: argparse.Namespace) -> int:
    """Largest difference and smallest cosine to recorded outputs, per model and form.

    Exits 3 when a model is off by more than 1e-4 or its cosine is below .999999.
    """
    import json

    from skyreid.contract.errors import GateError
    from skyreid.train.authors import parity

    results = parity.measure(arguments.folder, arguments.seed)
    if arguments.json:
        print(json.dumps({name: result.as_json() for name, result in results.items()}, indent=2))
    else:
        print(parity.table(results))
    off = [name for name, result in results.items() if not result.worst.holds]
    if off:
        raise GateError(f"not what the authors' code gives: {', '.join(off)}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    """Turn the authors', ImageNet's (timm) or OpenAI's CLIP weights into a checkpoint.

    Nothing is dropped in silence: a tensor without a place fails the conversion by name.
    """
    import json

    from skyreid.train.authors import convert
    from skyreid.train.options import fields

    report = convert.convert(
        arguments.source,
        arguments.to,
        arguments.out,
        origin=None if arguments.origin == "auto" else arguments.origin,
        height=arguments.height,
        width=arguments.width,
        people=arguments.people,
        trunk=fields(arguments.trunk),
        options=fields(arguments.options),
        seed=arguments.seed,
        key=arguments.key,
    )
    print(json.dumps(report.as_json(), indent=2) if arguments.json else convert.table(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())
