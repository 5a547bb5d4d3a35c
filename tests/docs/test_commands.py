"""Commands in the pages are commands: they parse, and verbs and options exist."""

import argparse
import importlib
import re
import subprocess

import pytest

from skyreid.contract.settings import Settings
from skyreid.edge.config import EdgeSettings
from skyreid.server.config import ServerSettings

REFERENCE = "docs/commands.md"
HISTORY = ("CHANGELOG.md", "docs/LOG.md")
FENCED = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:(?<=\n\n)|(?<=\A))((?: {4}.*\n)+)", re.MULTILINE)
SHELL = re.compile(r"\s*(?:[A-Z_]+=\S+ )*(?:sudo |skyreid-|python|pip|apt-get|torchrun|scripts/)")
CALL = re.compile(r"(skyreid-(?:train|export|edge|server)) ([^`\n|;>#)]+)")
SETTINGS: dict[str, type[Settings]] = {
    "skyreid-edge": EdgeSettings,
    "skyreid-server": ServerSettings,
}


def shell_blocks(page: str) -> list[str]:
    """Fenced ``sh`` blocks, and indented ones that begin with a command."""
    indented = [block for block in INDENTED.findall(page) if SHELL.match(block)]
    return FENCED.findall(page) + indented


def options_of(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    return {a.option_strings[-1]: a for a in parser._actions if a.option_strings}


def test_every_shell_block_parses(pages: dict[str, str]) -> None:
    blocks = [(name, block) for name, text in pages.items() for block in shell_blocks(text)]
    assert len(blocks) > 20
    wrong = []
    for name, block in blocks:
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True)
        if done.returncode:
            wrong.append(f"{name}: {done.stderr.strip()}")
    assert wrong == []


def test_every_verb_and_option_that_a_page_gives_exists(
    pages: dict[str, str], commands: dict[str, argparse.ArgumentParser]
) -> None:
    wrong, seen = [], 0
    for name, text in pages.items():
        if name in HISTORY:
            continue
        for program, rest in CALL.findall(text.replace("\\\n", " ")):
            words = re.sub(r"[\[\]]", " ", rest).split()
            verbs = [v for v in (f"{program} {words[0]}", f"{program} {' '.join(words[:2])}")]
            verb = next((v for v in verbs if v in commands), None)
            if verb is None:
                if re.fullmatch(r"[a-z][a-z-]+", words[0]) and f"{program} {words[0]}" != (
                    "skyreid-train synth"
                ):
                    wrong.append(f"{name}: {program} {rest}: no such verb")
                continue
            seen += 1
            known = {o for a in commands[verb]._actions for o in a.option_strings}
            for word in words:
                option = word.split("=")[0].rstrip(",.")
                if option.startswith("--") and option not in known:
                    section, _, key = option[2:].partition(".")
                    settings = SETTINGS.get(program)
                    field = settings.model_fields.get(section) if settings else None
                    inner = getattr(field.annotation, "model_fields", {}) if field else {}
                    if key not in inner:
                        wrong.append(f"{name}: {verb} has no option {option}")
    assert wrong == []
    assert seen > 60


def test_a_value_that_cannot_be_used_is_refused_in_words_of_the_user(
    commands: dict[str, argparse.ArgumentParser],
) -> None:
    ours = {
        each.type
        for parser in commands.values()
        for each in parser._actions
        if callable(each.type) and each.type.__module__.startswith("skyreid.")
    }
    assert len(ours) >= 6
    for kind in ours:  # argparse says of another error that it is an invalid _name_of_ours value
        with pytest.raises(argparse.ArgumentTypeError, match="none"):
            kind("none")


def test_the_reference_has_every_verb_and_option_and_no_other(
    pages: dict[str, str], commands: dict[str, argparse.ArgumentParser]
) -> None:
    sections = re.split(r"^### ", pages[REFERENCE], flags=re.MULTILINE)[1:]
    said = {section.splitlines()[0]: section for section in sections}
    assert sorted(said) == sorted(commands)
    for verb, section in said.items():
        rows = re.findall(r"^\| `([^`|\\ ]+)(?:`, `([^`\\ ]+))?", section, re.MULTILINE)
        named = [long or short for short, long in rows]
        options = options_of(commands[verb])
        options.pop("--help")
        assert sorted(named) == sorted(options), verb


@pytest.mark.parametrize("what", ["defaults", "choices"])
def test_the_reference_has_the_defaults_and_choices_of_the_parsers(
    what: str, pages: dict[str, str], commands: dict[str, argparse.ArgumentParser]
) -> None:
    for section in re.split(r"^### ", pages[REFERENCE], flags=re.MULTILINE)[1:]:
        options = options_of(commands[section.splitlines()[0]])
        rows = re.findall(
            r"^\| `(?:-o`, `)?(--[^` ]+)([^`]*)` \| ([^|]*) \|", section, re.MULTILINE
        )
        for option, value, default in rows:
            action = options[option]
            if what == "choices" and action.choices:
                assert value.strip().split("\\|") == list(action.choices), option
            if what == "defaults":
                wanted = "required" if action.required else action.default
                if isinstance(wanted, (str, int, float)) and wanted is not False:
                    assert default.strip() == str(wanted), option
                elif not wanted:
                    assert default.strip() == "", option


def test_help_is_plain_text(commands: dict[str, argparse.ArgumentParser]) -> None:
    marked = [
        name for name, parser in commands.items() if re.search("`|Args:", parser.format_help())
    ]
    assert marked == []


@pytest.mark.parametrize("role", ["train", "export", "edge", "server"])
def test_every_command_says_its_version(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    main = importlib.import_module(f"skyreid.{role}.__main__").main
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(rf"skyreid-{role} (\d+\.\d+\.\d+\S*|unknown)\n", capsys.readouterr().out)
