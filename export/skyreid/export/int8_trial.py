"""One way to round an fp32 graph, made and held against it on pictures of known people."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from skyreid.export import closeness, experts, fp16, int8, loss, retrieval
from skyreid.export.crops import Crops

Floats = closeness.Floats
Ints = closeness.Ints


@dataclass(frozen=True, eq=False)
class Trial:
    """What came of leaving some Linears as they are.

    Attributes:
        for_cpu: the model, float32 around its int8 Linears.
        for_engines: the same, float16 around them.
        facts: by model ("int8", "int8-fp16"), see `Judge.held`.
        losses: what a search among the judges loses, by model.
        choices: of each router, by model.
        failures: a line for each limit that was not kept.
    """

    for_cpu: bytes
    for_engines: bytes
    facts: dict[str, dict[str, Any]]
    losses: dict[str, tuple[loss.Loss, ...]]
    choices: dict[str, list[experts.Choice]]
    failures: list[str]

    def lines(self) -> list[str]:
        """What was measured, for people."""
        said = []
        for name, facts in self.facts.items():
            numbers = ((k, v) for k, v in facts.items() if isinstance(v, float))
            said.append(f"{name}: " + ", ".join(f"{k} {v:.5f}" for k, v in numbers))
            said += [one.line(f"{name}, judges among each other,") for one in self.losses[name]]
        return said

    @property
    def chooses_alike(self) -> bool:
        """Whether every router chooses as in fp32."""
        return all(
            choice.agreement >= experts.AGREEMENT_MIN
            for table in self.choices.values()
            for choice in table
        )


class Judge:
    """Holds variants of one graph against it; the exact embeddings are computed once."""

    def __init__(self, fp32: bytes, crops: Crops) -> None:
        self._fp32, self._crops = fp32, crops
        self.model = onnx.load_from_string(fp32)
        self.routers = experts.routers(self.model)
        self._exact, self._scores = experts.ask(
            fp32, self.routers, crops.images, name="fp32", quantised=False
        )

    def attempt(self, ranges: Mapping[str, float], kept: Set[str]) -> Trial:
        """Make both variants with the Linears `kept` (their outputs) as they are, and hold them.

        Raises:
            InputError: no Linear is left.
            GateError: the graph has a form that cannot be quantised.
        """
        for_cpu = self.quantised(ranges, kept)
        for_engines = fp16.convert(for_cpu)
        fp16.check(for_engines)
        made = {"int8": for_cpu, "int8-fp16": for_engines}
        facts: dict[str, dict[str, Any]] = {}
        losses: dict[str, tuple[loss.Loss, ...]] = {}
        choices: dict[str, list[experts.Choice]] = {}
        failures: list[str] = []
        for name, model in made.items():
            rows, scores = experts.ask(
                model, self.routers, self._crops.images, name=name, quantised=True
            )
            facts[name], losses[name], failed = self.held(rows, name)
            failures += failed
            choices[name] = experts.compare(self.routers, self._scores, scores)
        return Trial(for_cpu, for_engines, facts, losses, choices, failures)

    def quantised(self, ranges: Mapping[str, float], kept: Set[str]) -> bytes:
        """The variant for CPUs, checked; see `attempt`."""
        wanted = int8.quantised_inputs(self.model, kept)
        made = int8.quantise(self._fp32, {name: ranges[name] for name in wanted}, kept)
        int8.check(made, kept)
        return made

    def held(
        self, rows: Floats, what: str
    ) -> tuple[dict[str, Any], tuple[loss.Loss, ...], list[str]]:
        """Closeness and loss of a search, of embeddings [N, D], and a line for each failure.

        Every picture of the judges is searched for among all others.
        """
        if wrong := int((~np.isfinite(rows).all(1)).sum()):
            return {}, (), [f"{what}: {wrong} of {len(rows)} embeddings are not finite numbers"]
        close = closeness.distance(rows, self._exact, self._crops.people)
        failures = closeness.failures(close, "int8", what)
        found = loss.losses(
            *(retrieval.each_other(some, self._crops.records) for some in (self._exact, rows))
        )
        facts: dict[str, Any] = {**close, "loss": [one.as_json() for one in found]}
        failures += [one.line(what) for one in found if one.verdict == "failed"]
        return facts, found, failures

    def noise(self, ranges: Mapping[str, float], linear: str) -> float:
        """What one Linear alone in int8 changes, see `closeness.Limits.noise`; all of it: inf."""
        others = {node.output[0] for node in int8.linears(self.model)} - {linear}
        made = self.quantised(ranges, others)
        rows, _ = experts.ask(made, (), self._crops.images, name="int8", quantised=True)
        if not np.isfinite(rows).all():
            return math.inf
        return closeness.distance(rows, self._exact, self._crops.people)["noise"]
