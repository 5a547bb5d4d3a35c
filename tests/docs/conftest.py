"""What the pages say and what the commands understand, for the rules of the documentation."""

from __future__ import annotations

import argparse
import importlib
import subprocess
from pathlib import Path

import pytest

ROLES = ("train", "export", "edge", "server")


class _Caught(BaseException):
    """Carries a command's parser past whatever would handle an exception."""


@pytest.fixture(scope="session")
def pages(repository: Path) -> dict[str, str]:
    """Every Markdown file of the repository, by its path from the root."""
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=repository, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return {name: (repository / name).read_text() for name in sorted(names)}


@pytest.fixture(scope="session")
def commands() -> dict[str, argparse.ArgumentParser]:
    """The parser of every command with all of its verbs, as ``skyreid-train synth clip``."""
    found: dict[str, argparse.ArgumentParser] = {}
    for role in ROLES:
        _verbs(f"skyreid-{role}", _parser_of(role), found)
    return found


def _parser_of(role: str) -> argparse.ArgumentParser:
    """What a command would parse its arguments with; nothing is parsed and nothing runs."""

    def catch(parser: argparse.ArgumentParser, *_: object) -> None:
        raise _Caught(parser)

    entry = importlib.import_module(f"skyreid.{role}.__main__").main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_known_args", catch)
        try:
            # The server's own verb for scoring is registered only where it is asked for.
            entry(["evaluate"])
        except _Caught as caught:
            parser = caught.args[0]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def _verbs(
    name: str, parser: argparse.ArgumentParser, found: dict[str, argparse.ArgumentParser]
) -> None:
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    if not below:
        found[name] = parser
    for action in below:
        for verb, each in action.choices.items():
            _verbs(f"{name} {verb}", each, found)
