"""How well people are matched over a day: the measure of the matcher, in one command.

::

    python bench/world.py WORK --seed tune                     # what may be looked at in between
    python bench/world.py WORK --seed report --json OUT.json   # once, when all is decided

The first run renders `--people` people whom nothing was trained on (some fifteen minutes of a core
for 4,400) and embeds them with the shipped bundle; both are kept in WORK under the digest of what
made them, and what was stopped goes on. Then twelve cameras tell a matcher of `--hours` simulated
hours, with positions exact, of `gnss` telemetry and none, and what it concluded is held against the
truth: `world_site` is the day, `world_told` what devices say of it, `world_score` what is counted.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from world_crops import Embedded, Rendering
from world_people import Asked
from world_score import idf1, pairs, returns, stated, strangers, told, visits_of
from world_site import REPORT_SEED, TEST_SEED, TUNE_SEED, Day, day
from world_told import Positions, Told, Truth, tell

from skyreid.contract.identity_event import TrackKey
from skyreid.server.app import score_priors
from skyreid.server.matching.identity import Decision
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.matching.priors import Normals
from skyreid.server.people.options import PeopleOptions
from skyreid.server.scoring.lineage import Lineage, lineage_of

SEEDS = {"report": (REPORT_SEED, 4400), "tune": (TUNE_SEED, 1500), "test": (TEST_SEED, 24)}
"""Whose people, and how many."""
BUNDLE = Path(__file__).parents[1] / "examples/bundle/vdt-tiny"


def decide(
    happened: Sequence[Told], options: MatchingOptions, priors: Mapping[str, Normals]
) -> tuple[list[Decision], list[float], Asked]:
    """What is decided as the day goes by, the CPU seconds of each step of it, and who was asked."""
    matcher, made = Matcher(options, priors=priors), list[Decision]()
    asked = Asked(matcher, PeopleOptions(fpir=options.fpir), priors)
    batch_ns, steps_s = round(options.batch_s * 1e9), []
    horizon_ns = happened[0][3].captured_at_ns if happened else 0
    begin_s = time.process_time()
    for device, boot, model, sighting in happened:
        if sighting.captured_at_ns > horizon_ns + batch_ns:
            horizon_ns = sighting.captured_at_ns - 1
            made += asked.after(matcher.advance(horizon_ns), end=False)
            steps_s.append(time.process_time() - begin_s)
            begin_s = time.process_time()
        matcher.add(device, boot, model, sighting)
        asked.take(device, boot, model, sighting)
    made += asked.after(matcher.advance(None), end=True)
    steps_s.append(time.process_time() - begin_s)
    return made, steps_s, asked


def report(
    happened: Day, truth: Mapping[TrackKey, Truth], said: Lineage, options: MatchingOptions
) -> dict[str, Any]:
    """Everything that is counted of one run."""
    visits = visits_of(truth, said)
    return {
        "people": len({one.pid for one in truth.values()}),
        "visits": len(visits),
        "tracklets": len(truth),
        "identities": len({said.final(track) for track in truth} - {None}),
        "returns": returns(visits, truth, happened),
        "strangers": strangers(visits, happened, options.window_s),
        "told_returns": told(truth, said),
        "cross_view": pairs(truth, said),
        "idf1": idf1(truth, said),
        "idf1_of_visits": idf1(truth, said, visits=True),
        "stated": stated(said, truth, happened),
    }


def run(
    happened: Day,
    embedded: Embedded,
    positions: Positions,
    until_s: float,
    fpir: float,
    priors: Mapping[str, Normals],
) -> dict[str, Any]:
    """One day with one kind of positions."""
    options = MatchingOptions(fpir=fpir)
    sightings, truth = tell(happened, embedded, positions, until_s)
    log, steps_s, asked = decide(sightings, options, priors)
    steps_s.sort()
    return {
        "positions": positions,
        "fpir": fpir,
        **report(happened, truth, lineage_of(log), options),
        "decisions": dict(sorted(Counter(d.kind for d in log).items())),
        "measured_fpir": {"rate": asked.rate(fpir), "n": asked.measured},
        "cpu_ms_a_question": asked.cpu_ms,
        "sightings": len(sightings),
        "cpu_ms_a_sighting": round(1e3 * sum(steps_s) / max(len(sightings), 1), 2),
        "cpu_s_of_a_step": {
            "p50": round(steps_s[len(steps_s) // 2], 4),
            "p99": round(steps_s[int(0.99 * (len(steps_s) - 1))], 4),
            "max": round(steps_s[-1], 3),
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """One run for people, shares in percent with their 95 % intervals over people."""
    lines = [
        f"positions {found['positions']}, FPIR configured {100 * found['fpir']:g} %: "
        f"{found['people']} people, {found['visits']} visits, {found['tracklets']} tracklets, "
        f"{found['identities']} identities",
        f"  IDF1 {100 * found['idf1']:.1f}, of visits {100 * found['idf1_of_visits']:.1f}; "
        f"cross-view precision {_plain(found['cross_view']['precision'])}, "
        f"recall {_plain(found['cross_view']['recall'])}, "
        f"within visits {_plain(found['cross_view']['recall_within_visits'])}",
        f"  {found['sightings']} sightings, {found['cpu_ms_a_sighting']} ms of CPU each; "
        f"a step {found['cpu_s_of_a_step']}",
        "  came back after   view   alike      n   "
        "right                wrong                missed",
    ]
    for row in found["returns"]:
        cells = "  ".join(_share(row[word]) for word in ("right", "wrong", "missed"))
        gap, alike = f"{row['gap_s'] / 60:>11g} min", _word(row["look_alikes"])
        lines.append(f"  {gap}   {row['view']:<5}  {alike:<5} {row['n']:>6}   {cells}")
    lines.append("  came first, gallery    alike      n   linked               beyond the window")
    for row in found["strangers"]:
        cells = "  ".join(_share(row[word]) for word in ("linked", "linked_beyond_window"))
        alike = _word(row["look_alikes"])
        lines.append(f"  {row['gallery']:<20}   {alike:<5} {row['n']:>6}   {cells}")
    for state, one in found["told_returns"].items():
        lines.append(f"  returns {state}: {one['n']}, stated {one['stated']}, right {one['right']}")
    lines.append(
        f"  measured FPIR {found['measured_fpir']}; a question {found['cpu_ms_a_question']} ms"
    )
    for when, by_slice in found["stated"].items():
        lines.append(
            f"  links, {when:<10}     n   calibration error     right of those stated at least"
        )
        for name, one in by_slice.items():
            if not one["n"]:
                continue
            error = f"{one['ece']:.3f} ({one['low']:.3f} to {one['high']:.3f})"
            over = "  ".join(
                f"{bar}: {_share(a)} of {a['n']}" for bar, a in one["at_least"].items()
            )
            lines.append(f"    {name:<14} {one['n']:>6}   {error}   {over}")
    return "\n".join(lines)


def _share(rate: Mapping[str, float] | None) -> str:
    if rate is None:
        return f"{'–':>19}"
    return f"{100 * rate['rate']:5.1f} ({100 * rate['low']:4.1f} to {100 * rate['high']:5.1f})"


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, help="where pictures and embeddings are kept")
    parser.add_argument("--seed", choices=sorted(SEEDS), default="tune", help="whose people")
    parser.add_argument("--people", type=int, help="default 4400 to report, 1500 to tune by")
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument(
        "--parts", type=int, help="of the pictures, so many parts only: fewer people"
    )
    parser.add_argument(
        "--among", type=int, nargs=2, metavar=("FIRST", "LAST"),
        help="people of these parts only, of all that are embedded",
    )  # fmt: skip
    parser.add_argument("--hours", type=float, default=8.0, help="of the day, from its beginning")
    parser.add_argument(
        "--positions",
        nargs="+",
        choices=("exact", "gnss", "none"),
        default=["exact", "gnss", "none"],
    )
    parser.add_argument("--fpir", type=float, nargs="+", default=[MatchingOptions().fpir])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything there")
    args = parser.parse_args(arguments)
    seed, people = SEEDS[args.seed]
    happened = day(seed, args.people or people)
    rendering = Rendering(happened, args.work)
    rendering.render(args.parts)
    embedded = rendering.embed(args.bundle, args.parts)
    if args.among:
        embedded = rendering.among(embedded, *args.among)
    priors = score_priors(args.bundle)
    runs = []
    for positions in args.positions:
        for fpir in args.fpir:
            runs.append(run(happened, embedded, positions, 3600 * args.hours, fpir, priors))
            print(table(runs[-1]), flush=True)
            if args.json:  # what was measured is kept, whatever happens to the rest
                head = {
                    "seed": seed, "people": len(happened.people), "hours": args.hours,
                    "among": args.among, "recipe": embedded.recipe,
                    "bundle": embedded.model.bundle_sha256,
                }  # fmt: skip
                args.json.write_text(json.dumps({**head, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
