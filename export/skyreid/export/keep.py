"""Which Linears stay in float, each for a reason that is said.

* *dead*: what it reads is 0 in every picture, as behind a pruned or collapsed layer: no scale fits.
* *experts*: a router chooses otherwise when what it reads is rounded. All that it depends on stays,
  for a part of it would not do: its near ties are a hundred times closer than one Linear's error.
* *explain*: it is among those that lose most, and without it the gates are passed. Found only when
  asked for, because every Linear is tried alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tqdm import tqdm

from skyreid.contract.errors import GateError
from skyreid.export import experts, int8
from skyreid.export.int8_trial import Judge, Trial

Say = Callable[[str], None]

SMALLEST_RANGE = 127 * 2.0**-20
"""Of an activation: a scale below leaves float16."""


@dataclass(frozen=True, eq=False)
class Kept:
    """The trial that was taken.

    Attributes:
        trial: see there.
        reasons: of every Linear in float, by its output.
        noise: by output, what a Linear alone in int8 changes; empty where nobody asked.
    """

    trial: Trial
    reasons: dict[str, str]
    noise: dict[str, float]


def choose(judge: Judge, ranges: Mapping[str, float], *, explain: bool, say: Say) -> Kept:
    """As many Linears in int8 as the gates let.

    Args:
        judge: of the graph.
        ranges: of every activation.
        explain: whether to try each Linear alone, and to leave the worst in float where it helps.
        say: receives a line for every reason.

    Raises:
        InputError: no Linear is left to quantise.
        GateError: what is left fails; the line says how.
    """
    names = int8.named(judge.model)
    trial, reasons = first(judge, ranges, say=say)
    noise: dict[str, float] = {}
    if explain:
        alone = [output for output in names if output not in reasons]
        bar = tqdm(alone, desc="each Linear alone", unit="Linear", disable=None)
        noise = {output: judge.noise(ranges, output) for output in bar}
        order = sorted(noise, key=lambda output: -noise[output])
        for output in order:
            say(f"{noise[output]:.4f} {names[output]}")
        if trial.failures:
            trial, worst = _without_the_worst(judge, ranges, reasons, order, trial)
            for output in worst:
                say(f"{names[output]} stays in float: with it the gates are not passed")
            reasons |= dict.fromkeys(worst, "explain")
    for line in trial.lines():
        say(line)
    if trial.failures:
        advice = (
            "no Linear can be in int8"
            if explain
            else "--explain leaves those in float that lose most; or try the other --method"
        )
        raise GateError(f"{'; '.join(trial.failures)}; {advice}")
    return Kept(trial, reasons, noise)


def first(judge: Judge, ranges: Mapping[str, float], *, say: Say) -> tuple[Trial, dict[str, str]]:
    """All in int8 but for what is dead, and for what experts are chosen by where they need it.

    Returns:
        The trial, whether it passes or not, and the reasons of what stays in float, by output.
    """
    nodes = int8.linears(judge.model)
    names = int8.named(judge.model)
    reasons = {n.output[0]: "dead" for n in nodes if 0 <= ranges[n.input[0]] <= SMALLEST_RANGE}
    for output in reasons:
        say(f"{names[output]} stays in float: what it reads is 0 in all pictures")
    trial = judge.attempt(ranges, reasons.keys())
    _say_choices(trial, say)
    if not trial.chooses_alike:
        upstream = experts.before(judge.model, judge.routers) - reasons.keys()
        say(f"{len(upstream)} Linears before the experts stay in float, for these near ties")
        reasons |= dict.fromkeys(sorted(upstream), "experts")
        trial = judge.attempt(ranges, reasons.keys())
        _say_choices(trial, say)
    return trial, reasons


def _without_the_worst(
    judge: Judge,
    ranges: Mapping[str, float],
    reasons: Mapping[str, str],
    order: list[str],
    trial: Trial,
) -> tuple[Trial, list[str]]:
    """The fewest of `order`, from its beginning, without which the gates are passed.

    Doubled until they are, then halved: a handful of trials, and never all of the Linears.
    """
    best, failing, count = None, 0, 1
    while best is None and failing < len(order) - 1:
        count = min(count, len(order) - 1)
        trial = judge.attempt(ranges, {*reasons, *order[:count]})
        if trial.failures:
            failing, count = count, 2 * count
        else:
            best = (trial, count)
    if best is None:
        return trial, []
    while best[1] - failing > 1:
        count = (best[1] + failing) // 2
        trial = judge.attempt(ranges, {*reasons, *order[:count]})
        if trial.failures:
            failing = count
        else:
            best = (trial, count)
    return best[0], order[: best[1]]


def _say_choices(trial: Trial, say: Say) -> None:
    for name, table in trial.choices.items():
        for choice in table:
            say(choice.line(name))
