"""``skyreid-export``: from a checkpoint to a bundle that proves itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from skyreid.bundle.signature import read_trust
from skyreid.contract.errors import GateError, InputError, PlatformError, run_command
from skyreid.contract.version import add_version
from skyreid.export import bare, get, signing
from skyreid.train.data import catalogue


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code of the contract."""
    options = _parser().parse_args(argv)
    return run_command(lambda: int(options.verb(options)))


@contextmanager
def _extra() -> Iterator[None]:
    """Within it a library that is missing is said to be, and how it is installed."""
    try:
        yield
    except ImportError as error:
        raise PlatformError(
            f"{error.name} is not installed: pip install 'skyreid[export]'"
        ) from error


def _bundle(options: argparse.Namespace) -> int:
    options.name = options.name or options.out.name
    bare.require_texts(options)
    if options.kind is not None:
        return bare.wrap(options)
    bare.refuse(options)
    if options.view is None:
        raise InputError("--view: which cameras the bundle serves, aerial, ground or any")
    options.formats = "fp32" if options.formats is None else options.formats
    options.licence = options.licence or "Apache-2.0"
    if options.io == "deepstream":
        return _deepstream(options)
    with _extra():
        from skyreid.export.bundle import RangePictures, export_bundle
        from skyreid.export.priors import read
        from skyreid.train.options import fields
    bundle = export_bundle(
        options.checkpoint,
        options.out,
        view=options.view,
        name=options.name,
        formats=tuple(options.formats.split(",")),
        batch_max=options.batch_max,
        pictures_from=options.golden,
        range_pictures=None
        if options.pictures is None
        else RangePictures(
            options.pictures,
            options.count,
            options.method,
            options.percentile,
            options.explain,
            catalogue.told(options),
        ),
        form=fields(options.form),
        licence=options.licence,
        notes=options.notes,
        score_priors=read(options.score_priors) if options.score_priors else {},
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(bundle.path)
    return 0


def _deepstream(options: argparse.Namespace) -> int:
    if options.formats != "fp32":
        raise InputError(
            f"--formats {options.formats}: for DeepStream the model is fp32; it builds its own "
            "engine by networkMode"
        )
    for option in ("pictures", "aerial", "ag_reid_c2", "score_priors", "notes", "form"):
        if getattr(options, option):
            raise InputError(
                f"--{option.replace('_', '-')}: is for a bundle, and DeepStream takes an ONNX file "
                "and a configuration; leave it out"
            )
    with _extra():
        from skyreid.export.deepstream import export_deepstream
    written = export_deepstream(
        options.checkpoint,
        options.out,
        view=options.view,
        name=options.name,
        batch_max=options.batch_max,
        pictures_from=options.golden,
        licence=options.licence,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(written)
    return 0


def _unfold(options: argparse.Namespace) -> int:
    with _extra():
        from skyreid.export.unfold import unfold
    told, trust = catalogue.told(options), read_trust(options.trust)
    difference = unfold(options.bundle, options.data, options.out, told=told, trust=trust)
    print(f"{options.out}, within {difference:.1e} of the bundle's answers")
    return 0


def _inspect(options: argparse.Namespace) -> int:
    from skyreid.export.report import as_lines, inspect

    facts = inspect(options.bundle, read_trust(options.trust))
    print(json.dumps(facts) if options.json else "\n".join(as_lines(facts)))
    return 0


def _quantize(options: argparse.Namespace) -> int:
    with _extra():
        from skyreid.export.quantize import quantize
    bundle = quantize(
        options.bundle,
        options.pictures,
        options.out,
        method=options.method,
        percentile=options.percentile,
        count=options.count,
        explain=options.explain,
        told=catalogue.told(options),
        trust=read_trust(options.trust),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(bundle.path)
    return 0


def _put_priors(options: argparse.Namespace) -> int:
    from skyreid.export.priors import put

    for pair, p in put(options.bundle, options.data, read_trust(options.trust)).items():
        print(
            f"{pair}: same {p.same_mean:.2f} +- {p.same_std:.2f} of {p.pairs}, "
            f"different {p.different_mean:.2f} +- {p.different_std:.2f}"
        )
    return 0


def _verify(options: argparse.Namespace) -> int:
    with _extra():
        from skyreid.export.verify import verify
    from skyreid.export.report import for_json, verified_lines

    verdict = verify(
        options.bundle,
        checkpoint=options.checkpoint,
        data=options.data,
        told=catalogue.told(options),
        write=not options.read_only,
        threads=options.threads,
        trust=read_trust(options.trust),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    if options.json:
        print(json.dumps(for_json(verdict.facts), allow_nan=False))
    else:
        print("\n".join(verified_lines(verdict.facts)))
    if verdict.failures:
        raise GateError("; ".join(verdict.failures))
    return 0


def _compile(options: argparse.Namespace) -> int:
    from skyreid.export.compiling import compile_here

    facts = compile_here(
        options.bundle,
        options.cache,
        numeric_format=options.format,
        batch=options.batch_max,
        height=options.height,
        width=options.width,
        dla=options.dla,
        trust=read_trust(options.trust),
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    said = f"{facts['engine']} ({facts['rebuilt_because'] or 'from the cache'})"
    print(json.dumps(facts) if options.json else said)
    return 0


def _bench(options: argparse.Namespace) -> int:
    with _extra():
        from skyreid.export.bench import as_lines, bench
    report = bench(
        options.bundle,
        batches=_numbers("--batch", options.batch),
        threads=options.threads,
        rounds=options.rounds,
        checkpoint=options.checkpoint,
        trust=read_trust(options.trust),
    )
    print(json.dumps(report) if options.json else "\n".join(as_lines(report)))
    return 0


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}: whole numbers from 1 on, with commas") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="skyreid-export", description="From a checkpoint to a bundle that proves itself."
    )
    add_version(parser, "export")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    bundle = verbs.add_parser(
        "bundle", help="export a checkpoint, or wrap a bare detector .onnx, into a bundle"
    )
    bundle.set_defaults(verb=_bundle)
    bundle.add_argument(
        "checkpoint",
        type=Path,
        metavar="MODEL",
        help="what skyreid-train fit wrote, or a detector's .onnx (with --kind and --family)",
    )
    bundle.add_argument("-o", "--out", type=Path, required=True, help="bundle directory to make")
    bundle.add_argument(
        "--view", choices=("aerial", "ground", "any"), help="that it serves (a .onnx: any)"
    )
    bundle.add_argument("--name", help="of the model, for people (default: name of the directory)")
    bundle.add_argument(
        "--formats",
        help="of fp32, fp16 and int8, comma separated (default: fp32; a .onnx: its own)",
    )
    bundle.add_argument("--batch-max", type=int, default=32, help="pictures of the largest batch")
    bundle.add_argument(
        "--golden",
        type=Path,
        help="directory of pictures, of people for a .onnx (default: drawn ones)",
    )
    bare.add_options(bundle)
    _add_ranges(bundle, required=False)
    bundle.add_argument(
        "--form", nargs="+", default=[], metavar="KEY=VALUE", help="options of a method's form"
    )
    bundle.add_argument(
        "--licence", help="of the weights, SPDX (default: Apache-2.0; a .onnx: NOASSERTION)"
    )
    bundle.add_argument("--notes", default="", help="for people, into the manifest")
    bundle.add_argument(
        "--score-priors", type=Path, help="JSON of cosine distributions by view pair"
    )
    bundle.add_argument(
        "--io",
        choices=("kit", "deepstream"),
        default="kit",
        help="a bundle, or a float model with nvtracker's settings, which is none",
    )

    get.add_verbs(verbs)

    unfold = verbs.add_parser("unfold", help="make a checkpoint of a bundle, to train on")
    unfold.set_defaults(verb=_unfold)
    unfold.add_argument("bundle", type=Path)
    unfold.add_argument("-o", "--out", type=Path, required=True, help="checkpoint to make")
    unfold.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        metavar="DATA",
        help="what gives the batch norms their statistics: clips for a detector, people for others",
    )

    inspect = verbs.add_parser("inspect", help="verify a bundle and say what it is")
    inspect.set_defaults(verb=_inspect)
    inspect.add_argument("bundle", type=Path)
    inspect.add_argument("--json", action="store_true", help="one JSON object on stdout")

    quantize = verbs.add_parser("quantize", help="add an int8 model to a bundle, behind gates")
    quantize.set_defaults(verb=_quantize)
    quantize.add_argument("bundle", type=Path, help="an embedder bundle with an fp32 model")
    quantize.add_argument("-o", "--out", type=Path, required=True, help="bundle directory to make")
    _add_ranges(quantize, required=True)

    verify = verbs.add_parser("verify", help="hold a bundle against its checkpoint and a data set")
    verify.set_defaults(verb=_verify)
    verify.add_argument(
        "bundle", type=Path, nargs="+", help="a bundle, or the bundles of two views of one model"
    )
    verify.add_argument("--checkpoint", type=Path, help="that it was exported from: asks torch")
    verify.add_argument("--data", type=Path, help="data set whose test split is searched")
    verify.add_argument("--threads", type=int, default=1, help="of ONNX Runtime")
    verify.add_argument(
        "--read-only", action="store_true", help="leave parity.json and the sums as they are"
    )
    verify.add_argument("--json", action="store_true", help="one JSON object on stdout")

    priors = verbs.add_parser("priors", help="measure a bundle's score priors anew")
    priors.set_defaults(verb=_put_priors)
    priors.add_argument("bundle", type=Path, help="an embedder's directory, not signed")
    priors.add_argument(
        "--data", type=Path, required=True, help="data set whose test people it never saw"
    )

    signing.add_verbs(verbs, print)

    compiled = verbs.add_parser("compile", help="build the engine of a bundle for this device")
    compiled.set_defaults(verb=_compile)
    compiled.add_argument("bundle", type=Path)
    compiled.add_argument("--cache", type=Path, required=True, help="directory of the engines")
    compiled.add_argument(
        "--format",
        choices=("fp32", "fp16", "int8"),
        help="numeric format (default: the one a device would run)",
    )
    compiled.add_argument(
        "--batch-max", type=int, help="pictures of one call (default: the bundle's; a detector: 1)"
    )
    compiled.add_argument(
        "--height", type=int, help="of a detector's largest picture, pixels (default: 1088)"
    )
    compiled.add_argument("--width", type=int, help="the same (default: 1920)")
    compiled.add_argument("--dla", action="store_true", help="refused, with the reason")
    compiled.add_argument("--json", action="store_true", help="one JSON object on stdout")

    bench = verbs.add_parser("bench", help="time a bundle's numeric formats on this CPU, in turn")
    bench.set_defaults(verb=_bench)
    bench.add_argument("bundle", type=Path)
    bench.add_argument("--batch", default="1,8,32", help="pictures of one call, comma separated")
    bench.add_argument("--threads", type=int, default=1, help="of one call")
    bench.add_argument("--rounds", type=int, default=15, help="calls that count, of each")
    bench.add_argument(
        "--checkpoint", type=Path, help="what the bundle was made of: PyTorch runs it beside"
    )
    bench.add_argument("--json", action="store_true", help="one JSON object on stdout")
    for verb in (bundle, unfold, quantize, verify):
        catalogue.add_options(verb)
    _add_trust(unfold, inspect, quantize, verify, priors, compiled, bench)
    return parser


def _add_trust(*parsers: argparse.ArgumentParser) -> None:
    for parser in parsers:
        parser.add_argument(
            "--trust",
            type=Path,
            metavar="SETTINGS",
            help="an edge.toml or server.toml: only what its [trust] accepts is opened",
        )


def _add_ranges(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """What int8 needs."""
    parser.add_argument(
        "--pictures",
        type=Path,
        required=required,
        help="for int8: a data set of known people, or a folder of one, best the training split",
    )
    parser.add_argument(
        "--count", type=int, default=256, help="pictures for ranges; as many of others judge"
    )
    parser.add_argument("--method", choices=("minmax", "percentile"), default="minmax")
    parser.add_argument("--percentile", type=float, default=99.99, help="of absolute values")
    parser.add_argument(
        "--explain",
        action="store_true",
        help="try each Linear alone, and leave those in float that lose most until the gates pass",
    )


if __name__ == "__main__":
    sys.exit(main())
