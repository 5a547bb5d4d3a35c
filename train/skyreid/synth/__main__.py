"""`python -m skyreid.synth clip OUT`: the same verbs as `skyreid-train synth`."""

from __future__ import annotations

import argparse
import sys

from skyreid.contract.errors import run_command
from skyreid.synth.command import add_verbs


def main(arguments: list[str] | None = None) -> int:
    """Parse and run; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m skyreid.synth", description=__doc__)
    add_verbs(parser.add_subparsers(title="verbs", required=True, metavar="VERB"))
    args = parser.parse_args(arguments)
    return run_command(lambda: int(args.run(args)))


if __name__ == "__main__":
    sys.exit(main())
