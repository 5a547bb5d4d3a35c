"""A bundle held against its checkpoint, against itself and against a data set; then it says so.

Torch (where the checkpoint is given) or else fp32 is what every numeric format is compared with, at
batch 1, 2 and the largest. With a data set, each format searches it too. What comes out is written
into the bundle's ``parity.json`` under ``verified``, passed or failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle, open_bundle, replace_file
from skyreid.bundle.embedder import open_all
from skyreid.bundle.manifest import NumericFormat
from skyreid.bundle.runner import Outputs
from skyreid.bundle.signature import ANYONE, SIGNATURE, Trust
from skyreid.contract.errors import BundleError, InputError
from skyreid.export import closeness, crops, loss, parity, retrieval
from skyreid.export.batched import BATCH, run_all, run_onnx
from skyreid.export.report import for_json
from skyreid.train.data.catalogue import NOTHING, Told

VERIFIED = "verified"
PICTURES = 64
"""Of a data set that every format is compared on at every batch, where it has as many."""
DETECTOR_MIN_COSINE = 0.99
"""Of a detector's outputs in fp16, each picture's flattened: peaks that tie may swap places."""

Floats = NDArray[np.float32]
UInt8 = NDArray[np.uint8]
Say = Callable[[str], None]

_VIEWS: tuple[retrieval.View, ...] = ("aerial", "ground")


@dataclass(frozen=True)
class Model:
    """One ONNX file of a bundle: what it is called in a report, and how it is run."""

    name: str
    numeric_format: NumericFormat
    data: bytes
    threads: int


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    Attributes:
        facts: by bundle path what is under `verified` in its parity.json.
        failures: a line for each limit that was not kept; empty when none was.
        not_shown: a line for each loss of a search that may be small or large, for all that these
            queries show.
    """

    facts: dict[str, dict[str, Any]]
    failures: list[str]
    not_shown: list[str]


def verify(
    paths: Sequence[Path],
    *,
    checkpoint: Path | None = None,
    data: Path | None = None,
    told: Told = NOTHING,
    write: bool = True,
    threads: int = 1,
    trust: Trust = ANYONE,
    say: Say = lambda line: None,
) -> Verdict:
    """Verify a bundle, or the bundles of two views that are one model.

    Args:
        paths: of the bundles.
        checkpoint: that they were exported from; torch is the reference then.
        data: data set whose test split is searched in every numeric format.
        told: of the data set, see `catalogue.open`.
        write: whether parity.json is to say what came out. A bundle that fails says so too.
        threads: of ONNX Runtime.
        trust: whose bundles are accepted.
        say: receives a line per stage.

    Raises:
        InputError: the checkpoint is another one, there is no reference, or the data will not do.
        BundleError: a bundle cannot be used, is signed, or they are not one model.
    """
    bundles = [open_bundle(path, trust) for path in paths]
    if bundles[0].manifest.kind == "detector":
        if len(bundles) > 1 or data is not None:
            raise InputError("a detector is verified alone and without --data: it ranks nobody")
    else:
        bundles = open_all(paths)
    for bundle in bundles if write else ():
        _require_writable(bundle)
    for bundle in bundles if checkpoint is None else ():
        if "fp32" not in bundle.manifest.formats:
            raise InputError(f"{bundle.path} has no fp32 to compare with: give its --checkpoint")
    test = None
    if data is not None:
        say(f"read the test split of {data}")
        views = tuple(v for v in _VIEWS if any(b.manifest.view in (v, "any") for b in bundles))
        test = retrieval.read(data, bundles[0].manifest.input, views, told)

    failures: list[str] = []
    not_shown: list[str] = []
    facts: dict[str, dict[str, Any]] = {}
    for bundle in bundles:
        say(f"compare the numeric formats of {bundle.path}")
        found, failed = _at_batches(bundle, checkpoint, test, threads)
        facts[str(bundle.path)] = {"onnxruntime": version("onnxruntime"), **found}
        failures += failed
    if test is not None:
        found, failed, not_shown = _by_search(bundles, checkpoint, test, threads, say)
        failures += failed
        for fact in facts.values():
            fact["retrieval"] = found
    for bundle in bundles:
        fact = facts[str(bundle.path)]
        fact |= {
            "verdict": "failed" if failures else "not shown" if not_shown else "passed",
            "passed": not failures and not not_shown,
            "failures": failures,
            "not_shown": not_shown,
        }
        if write:
            say(f"write parity.json of {bundle.path}")
            proof = {**bundle.parity(), VERIFIED: for_json(fact)}
            text = json.dumps(proof, indent=1, sort_keys=True, allow_nan=False) + "\n"
            replace_file(bundle, "parity.json", text.encode())
    return Verdict(facts, failures, not_shown)


def models_of(bundle: Bundle, threads: int) -> list[Model]:
    """Every ONNX file of a bundle; int8 has one more for engines."""
    models = [Model(f, f, bundle.model(f), threads) for f in bundle.manifest.formats]
    if "int8" in bundle.manifest.formats and bundle.engine_model("int8") != bundle.model("int8"):
        models.append(Model("int8-fp16", "int8", bundle.engine_model("int8"), threads))
    return models


def _require_writable(bundle: Bundle) -> None:
    if not bundle.path.is_dir():
        raise BundleError(f"{bundle.path} is no directory: unpack it, or use --read-only")
    if (bundle.path / SIGNATURE).exists():
        raise BundleError(
            f"bundle {bundle.path} is signed, and what verify writes needs a new signature: use "
            f"--read-only, or remove {SIGNATURE} and sign again afterwards"
        )


def _at_batches(
    bundle: Bundle, checkpoint: Path | None, test: retrieval.TestSplit | None, threads: int
) -> tuple[dict[str, Any], list[str]]:
    """Every format at batch 1, 2 and the largest against the reference."""
    largest = bundle.manifest.batch_max
    shown = _shown(bundle, test, largest)
    pictures = shown.images
    exact, reference = _reference(bundle, checkpoint, pictures, threads)
    found: dict[str, dict[str, Any]] = {}
    failures: list[str] = []
    for model in models_of(bundle, threads):
        found[model.name] = {}
        for batch in parity.batches(largest):
            outputs = _run(model, pictures, batch)
            what = f"{bundle.path.name}, {model.name} at batch {batch}"
            close, failed = _compared(outputs, exact, model.numeric_format, what, shown)
            found[model.name][str(batch)] = close
            failures += failed
    facts = {
        "kind": bundle.manifest.kind,
        "reference": reference,
        "pictures": shown.distinct,
        "batches": found,
    }
    return facts, failures


def _compared(
    found: Outputs, exact: Outputs, numeric_format: NumericFormat, what: str, shown: _Shown
) -> tuple[dict[str, float], list[str]]:
    """Distances of one format's outputs, and a line for each that is over its limit."""
    if numeric_format == "fp32" and "embedding" in exact:
        apart = parity.distance(found, exact)
        return apart, [
            f"{what}: {name} differs by {value:.2e}, limit {parity.TORCH_LIMIT:.0e}"
            for name, value in apart.items()
            if not value <= parity.TORCH_LIMIT
        ]
    if "embedding" in exact:
        assert numeric_format != "fp32"
        rows, wanted = (outputs["embedding"][: shown.distinct] for outputs in (found, exact))
        close = closeness.distance(rows, wanted, shown.people)
        return close, closeness.failures(close, numeric_format, what)
    least: dict[str, float] = {}
    for name, want in exact.items():
        rows, wanted = (values.reshape(len(want), -1) for values in (found[name], want))
        lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wanted, axis=1)
        cosine = closeness.cosines(rows, wanted) / np.maximum(lengths, 1e-12)
        least[f"{name}_min_cosine"] = float(cosine.min())
    return least, [
        f"{what}: {name} is {value:.4f}, limit {DETECTOR_MIN_COSINE}"
        for name, value in least.items()
        if not value >= DETECTOR_MIN_COSINE
    ]


@dataclass(frozen=True, eq=False)
class _Shown:
    """Pictures for one largest batch, uint8 [N, H, W, 3]: the first `distinct`, over and over."""

    images: UInt8
    distinct: int
    people: NDArray[np.int64] | None


def _shown(bundle: Bundle, test: retrieval.TestSplit | None, largest: int) -> _Shown:
    """Of the data set, where there is one, else the golden ones."""
    golden, _ = bundle.golden()
    if test is None:
        images = np.resize(golden, (max(largest, len(golden)), *golden.shape[1:]))
        return _Shown(images, len(golden), None)
    view = bundle.manifest.view
    mine = np.arange(len(test.images)) if view == "any" else test.of(view)
    if not len(mine):
        raise InputError(
            f"the data has no test pictures of view {view}, which {bundle.path} serves"
        )
    place = {test.records[index].path: index for index in mine.tolist()}
    records = crops.in_pairs(
        [test.records[index] for index in mine.tolist()], max(largest, PICTURES)
    )
    chosen, count = [place[record.path] for record in records], len(records)
    names = np.asarray([record.person for record in records])
    people = np.unique(names, return_inverse=True)[1].astype(np.int64)
    images = np.resize(test.images[chosen], (max(largest, count), *test.images.shape[1:]))
    return _Shown(images, count, people)


def _reference(
    bundle: Bundle, checkpoint: Path | None, pictures: UInt8, threads: int
) -> tuple[Outputs, str]:
    """What the formats are compared with, and its name."""
    if checkpoint is None:
        model = Model("fp32", "fp32", bundle.model("fp32"), threads)
        return _run(model, pictures, bundle.manifest.batch_max), "fp32"
    return _by_torch(bundle, checkpoint, pictures), "torch"


def _by_torch(bundle: Bundle, checkpoint: Path, pictures: UInt8) -> Outputs:
    """Outputs of all pictures from the network that the bundle was made of."""
    from skyreid.export import trace

    traced = trace.load_for(bundle, checkpoint)
    return run_all(partial(trace.ask, traced), pictures, 8, what="torch")


def _run(model: Model, pictures: UInt8, batch: int = BATCH) -> Outputs:
    """Outputs of all pictures, `batch` at a time."""
    return run_onnx(
        model.data,
        pictures,
        name=model.name,
        quantised=model.numeric_format == "int8",
        batch=batch,
        threads=model.threads,
    )


def _by_search(
    bundles: Sequence[Bundle],
    checkpoint: Path | None,
    test: retrieval.TestSplit,
    threads: int,
    say: Say,
) -> tuple[dict[str, Any], list[str], list[str]]:
    """The test split ranked in every format that all bundles have, and by fp32 or else torch.

    Returns:
        What was found, a line for each loss shown to be large, and one for each not shown.
    """
    by_bundle = [{model.name: model for model in models_of(bundle, threads)} for bundle in bundles]
    shared = [name for name in by_bundle[0] if all(name in models for models in by_bundle)]
    embeddings: dict[str, Floats] = {}
    for name in shared:
        say(f"embed {len(test.images)} pictures in {name}")
        models = {b.manifest.view: found[name] for b, found in zip(bundles, by_bundle, strict=True)}
        embeddings[name] = _embedded(
            test, {view: partial(_run, model) for view, model in models.items()}
        )
    reference = "fp32" if "fp32" in shared else "torch"
    if reference == "torch":
        assert checkpoint is not None  # `verify` asks for one
        say(f"embed {len(test.images)} pictures in torch")
        embeddings[reference] = _embedded(
            test, {b.manifest.view: partial(_by_torch, b, checkpoint) for b in bundles}
        )
    facts: dict[str, Any] = {
        "data": test.root.name,
        "layout": test.name,
        "pictures": len(test.images),
        "reference": reference,
        "protocols": {},
        "loss": {},
        "agreement": {},
        "worst": {},
    }
    failures: list[str] = []
    for name, rows in list(embeddings.items()):
        if wrong := int((~np.isfinite(rows).all(1)).sum()):
            failures.append(f"{name}: {wrong} of {len(rows)} embeddings are not finite numbers")
            del embeddings[name]  # nobody is found by them
    not_shown: list[str] = []
    if reference not in embeddings:
        return facts, failures, not_shown
    exact = embeddings.pop(reference)
    exactly = retrieval.measures(exact, test)
    facts["protocols"][reference] = retrieval.scores(exactly)
    for name, rows in embeddings.items():
        found = retrieval.measures(rows, test)
        facts["protocols"][name] = retrieval.scores(found)
        facts["agreement"][name] = retrieval.agreement(exact, rows, test)
        facts["worst"][name] = retrieval.worst(exact, rows, test)
        lost = loss.of_protocols(exactly, found)
        facts["loss"][name] = {p: [one.as_json() for one in both] for p, both in lost.items()}
        for protocol, both in lost.items():
            lines = [(one.verdict, one.line(f"{name}: {protocol}")) for one in both]
            failures += [line for verdict, line in lines if verdict == "failed"]
            not_shown += [line for verdict, line in lines if verdict == "not shown"]
    return facts, failures, not_shown


def _embedded(test: retrieval.TestSplit, embed: Mapping[str, Callable[[UInt8], Outputs]]) -> Floats:
    """Rows of the whole split, each picture embedded by the model of its view."""
    rows: Floats | None = None
    for view, model in embed.items():
        mine = np.arange(len(test.images)) if view == "any" else test.of(_view(view))
        found = model(test.images[mine])["embedding"]
        if rows is None:
            rows = np.empty((len(test.images), found.shape[1]), np.float32)
        rows[mine] = found
    assert rows is not None
    return rows


def _view(name: str) -> retrieval.View:
    return "aerial" if name == "aerial" else "ground"
