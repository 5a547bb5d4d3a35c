"""The demo: runs the chain over a clip with known truth and reports how well it did."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
import webbrowser
from pathlib import Path
from typing import Any

from chain import ROOT, START_NS, Chain, ChainError, Ended

from skyreid.contract.errors import SkyreidError
from skyreid.server.scoring.command import as_json, as_table, score


def main() -> int:
    """Parse, run, report; exit 0 when the whole chain ran to its end."""
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--clip",
        type=Path,
        default=ROOT / "examples/clip",
        metavar="DIR",
        help="another clip of the same form (default: examples/clip): cam*.mp4, gt/, calib.json",
    )
    parser.add_argument(
        "--headless",
        action="store_true",
        help="end after the report instead of keeping the page open",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument(
        "--no-geometry",
        action="store_true",
        help="without the cameras' poses: appearance and time only",
    )
    parser.add_argument("--keep", action="store_true", help="keep journal, recordings and logs")
    options = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="skyreid-demo-"))
    try:
        return demo(options, work)
    except ChainError as error:
        options.keep = True
        print(f"\nthe demo failed: {error}", file=sys.stderr)
        return 1
    except Ended as end:
        print("\nstopped", file=sys.stderr)
        return 128 + end.number
    finally:
        if options.keep:
            print(f"kept in {work}")
        else:
            shutil.rmtree(work, ignore_errors=True)


def demo(options: argparse.Namespace, work: Path) -> int:
    """Run the chain in ``work`` and report."""
    begun = time.monotonic()
    chain = Chain(options.clip, work, geometry=not options.no_geometry)
    for number in (signal.SIGINT, signal.SIGTERM):  # its parts live in sessions of their own
        signal.signal(number, chain.end)
    try:
        chain.start_broker()
        chain.start_server()
        views = ", ".join(f"{camera} ({view})" for camera, view in chain.cameras.items())
        print(f"clip {options.clip}: {views}")
        print("pictures: always (this demo shows people's pictures; a site's default is never)")
        print(f"the page: {chain.address}", flush=True)
        if not options.headless:
            webbrowser.open(chain.address)
        for camera in chain.cameras:
            chain.start_edge(camera)
        watch(chain)
        report = evaluate(chain)
        report["seconds"] = round(time.monotonic() - begun, 1)
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        if not options.headless:
            print(f"\nthe page stays at {chain.address} until you press Ctrl-C")
            while True:
                time.sleep(1.0)
                chain.check()
        return 0
    finally:
        chain.stop()


def watch(chain: Chain) -> None:
    """Show progress until every device has ended and the server has decided everything."""
    total_s = {camera: chain.duration_s(camera) for camera in chain.cameras}
    while any(part.alive for part in chain.edges.values()):
        chain.check()
        show(progress(chain, total_s))
        time.sleep(0.5)
    chain.check()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        server = chain.get("/readyz") or {}
        if server.get("settled"):
            show("all decided")
            print()
            return
        time.sleep(0.2)
    raise ChainError(f"the server did not decide everything within 60 s: {chain.get('/readyz')}")


def progress(chain: Chain, total_s: dict[str, float]) -> str:
    """One line: how far each camera is, and what the server has."""
    devices = (chain.get("/v1/devices") or {}).get("devices", [])
    reached = {d["camera"]: d.get("watermark_ns") or 0 for d in devices}
    parts = []
    for camera, length_s in total_s.items():
        done = (
            1.0
            if not chain.edges[camera].alive
            else (max(0.0, (reached.get(camera, 0) - START_NS) / 1e9) / length_s)
        )
        parts.append(f"{camera} {min(done, 1.0):4.0%}")
    identities = (chain.get("/v1/identities?limit=1") or {}).get("total", 0)
    return "  ".join(parts) + f"  identities {identities}"


def show(line: str) -> None:
    """Draw the progress line; on a pipe one line every time would be noise, so none."""
    if sys.stdout.isatty():
        print(f"\r{line:<100}", end="", flush=True)


def evaluate(chain: Chain) -> dict[str, Any]:
    """Score the run against the clip's truth: print the table, return the numbers."""
    runs = [chain.run_directory(camera) for camera in chain.cameras]
    try:
        report = score(chain.clip, runs, chain.journal)
    except SkyreidError as error:
        raise ChainError(str(error)) from error
    print(as_table(report), end="")
    return as_json(report)


if __name__ == "__main__":
    sys.exit(main())
