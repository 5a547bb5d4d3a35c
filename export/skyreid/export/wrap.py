"""A bare detector ``.onnx`` of a declared family to a bundle, without torch.

Published files take float planes and answer each in its own way. Around such a file goes what makes
it one of ours: uint8 [1, H, W, 3] RGB in, its family's outputs out (``graft.py``). Then it is held
against the file itself, and must find people (``proof.py``): a shape alone proves no family.
Nothing is written before every gate has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from skyreid.bundle.archive import Bundle, write_bundle
from skyreid.bundle.detections import Detections, nobody
from skyreid.bundle.detector import Detector, place
from skyreid.bundle.family import FAMILIES, Family
from skyreid.bundle.manifest import DetectorSpec, Manifest, NumericFormat, WrappedFile
from skyreid.bundle.runner import OnnxRunner, Outputs, self_test_all
from skyreid.contract.errors import BundleError, InputError, SkyreidError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import detr, fp16, graph, parity, proof, suppressed, yolov8, yolox
from skyreid.export.bare_file import Asked, File, UInt8, graft, read
from skyreid.export.batched import run_all
from skyreid.export.declared import RANGES, Declared
from skyreid.export.drawn import draw
from skyreid.export.foreign import Foreign
from skyreid.export.proof import Pictures

FOREIGN: dict[str, Foreign] = {
    "yolox": yolox.FOREIGN,
    "yolov8": yolov8.FOREIGN,
    "detr": detr.FOREIGN,
    "nms-in-graph": suppressed.FOREIGN,
}
"""How a family's files are published, where they are not as `Foreign` has it by default."""

_TOOLS = ("onnx", "onnxsim", "onnxruntime")
HALF_LIMIT = 1e-2
"""What the simplifier's other order of sums may change in a float16 file, relative above 1."""


def wrap(
    path: Path,
    out: Path,
    *,
    family: str,
    pictures: Callable[[], Pictures],
    name: str,
    said: Mapping[str, str | int | None] | None = None,
    size: tuple[int, int] | None = None,
    score_min: float | None = None,
    formats: tuple[str, ...] = (),
    licence: str,
    notes: str = "",
    say: Callable[[str], object] = lambda line: None,
) -> Bundle:
    """Write the bundle of a bare detector file.

    Args:
        path: of the ``.onnx`` file.
        out: the bundle directory to make; it must not exist.
        family: a name of `FAMILIES`.
        pictures: makes eight pictures with people in them, as soon as the file is read; they become
            the golden ones.
        name: of the model, for people.
        said: what is declared otherwise than the family's convention, see `Declared`.
        size: height and width of its input, where the file leaves them open.
        score_min: default threshold; None = the family's.
        formats: numeric formats, the file's own or, of a float32 file, fp16 too; none = its own.
        licence: SPDX expression of the weights.
        notes: for people, into the manifest.
        say: receives a line per stage.

    Raises:
        InputError: an argument, the file or a picture cannot be used.
        BundleError: the file is not of the family, or `out` exists.
        GateError: a check or a parity limit failed, or people are not found; nothing was written.
    """
    if family not in FAMILIES:
        raise InputError(f"--family {family}: known are {', '.join(sorted(FAMILIES))}")
    if out.exists():
        raise BundleError(f"{out} exists already: remove it, or write to another directory")
    kind, form = FAMILIES[family], FOREIGN.get(family, Foreign())
    declared = form.declared.changed(**(said or {}))
    if score_min is not None and not 0 <= score_min <= 1:
        raise InputError(f"--score-min {score_min}: 0 to 1 is possible")
    say(f"read {path}")
    file = read(path, size, form, declared)
    wanted_formats = _formats(formats, file)
    mean, std = RANGES[declared.range]
    sides = InputSpec(height=file.height, width=file.width, mean=mean, std=std, crop_margin=0.0)
    shown = pictures()
    canvases = np.stack([place(one, sides, 1, declared.fit)[0] for one in shown.originals])

    say("ask the file itself")
    asked = Asked(file, form)
    answers = asked.ask(canvases, declared)
    wanted = form.read(answers, kind)
    what = f"{path} as {family}"
    proof.require_order(wanted, what)
    say(f"make it one of family {family}")
    made = graph.simplify(graft(file, form, kind, answers))
    facts = graph.check(made, batch=1)
    spec = DetectorSpec(
        family=family,
        stride=0,
        align=form.align(answers),
        score_min=kind.score_min if score_min is None else score_min,
        fit=declared.fit,
        rows=wanted["scores"].shape[1] if "scores" in wanted else 0,
        file=WrappedFile(
            layout=declared.layout,
            channels=declared.channels,
            person=declared.person,
            scores=declared.scores,
        ),
    )
    with OnnxRunner(made, name=name) as runner:
        found = run_all(runner.run, canvases, 1, what=name)
        finder = Detector(runner.run, spec, sides, score_min=proof.FAINT_MIN)
        finder.require_shapes(str(path))
        apart = parity.distance(found, wanted, kind)
        limit = parity.TORCH_LIMIT if file.numeric_format == "fp32" else HALF_LIMIT
        parity.require(f"the bundle's graph against {path.name} itself", apart, limit)
        say(f"look for people in {shown.origin}")
        faint = [finder.find(picture) for picture in shown.originals]
        if shown.truth is None:
            known = draw()
            there = proof.sure([finder.find(picture) for picture in known.originals])
    raw = [
        kind.decode({key: values[at] for key, values in found.items()}, spec, proof.FOUND_MIN)
        for at in range(len(canvases))
    ]
    proof.require_places(what, raw, (file.height, file.width), shown)
    seen = proof.require_people(what, proof.sure(faint), shown)
    if shown.truth is None:
        proof.require_not_beside(what, there, known)
    others = {
        option: _otherwise(asked, other, form, kind, spec, sides, shown)
        for option, other in _alternatives(declared).items()
    }
    compared = proof.require_declared(what, faint, others, shown)

    models: dict[NumericFormat, bytes] = {file.numeric_format: made}
    if file.numeric_format == "fp32" and "fp16" in wanted_formats:
        say("convert to fp16")
        models["fp16"] = fp16.convert(made)
        fp16.check(models["fp16"])
    manifest = Manifest(
        kind="detector",
        name=name,
        input=sides,
        formats=wanted_formats,
        opset=facts["opset"],
        batch_max=1,
        checkpoint_sha256=file.sha256,
        tools={tool: version(tool) for tool in _TOOLS},
        licence=licence,
        detector=spec,
        notes=notes,
    )
    say(f"write {out}")
    return write_bundle(
        out,
        manifest,
        {one: models[one] for one in wanted_formats},
        golden_pictures=canvases,
        golden_outputs=found,
        parity={
            "gates": {
                "batch 1": {path.name: apart},
                "people": {
                    "pictures": shown.origin,
                    **seen,
                    "fed otherwise": compared,
                },
            },
            "nodes": facts["nodes"],
            "operators": facts["operators"],
        },
        check=self_test_all,
    )


def _alternatives(declared: Declared) -> dict[str, Declared]:
    """Other ways to feed a file, by the option that would declare each."""
    turned = "bgr" if declared.channels == "rgb" else "rgb"
    return {
        f"--channels {turned}": declared.changed(channels=turned),
        **{
            f"--range {one}": declared.changed(range=one) for one in RANGES if one != declared.range
        },
    }


def _otherwise(
    asked: Asked,
    other: Declared,
    form: Foreign,
    family: Family,
    spec: DetectorSpec,
    sides: InputSpec,
    shown: Pictures,
) -> list[Detections]:
    """What the file itself finds when it is fed otherwise; nobody where its answers are none."""

    def run(canvases: UInt8) -> Outputs:
        return form.read(asked.ask(canvases, other), family)

    finder = Detector(run, spec, sides, score_min=proof.FAINT_MIN)
    try:
        return [finder.find(picture) for picture in shown.originals]
    except SkyreidError:
        return [nobody()] * len(shown.originals)


def _formats(asked: tuple[str, ...], file: File) -> tuple[NumericFormat, ...]:
    can: tuple[NumericFormat, ...] = (
        ("fp32", "fp16") if file.numeric_format == "fp32" else ("fp16",)
    )
    unknown = [one for one in asked if one not in can]
    if unknown:
        raise InputError(
            f"--formats {','.join(asked)}: of {file.path}, which is {file.numeric_format}, "
            f"can be made: {', '.join(can)}"
        )
    return tuple(one for one in can if one in (asked or (file.numeric_format,)))
