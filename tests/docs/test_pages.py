"""Links lead somewhere, files that are named exist, and a decision says what it must."""

import re
from pathlib import Path, PurePosixPath

LINK = re.compile(r"\]\(([^)\s]+)\)")
LINKED = re.compile(r"\[[^\]]*\]\([^)\s]+\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
NAMED = re.compile(r"(?<![\w/.(:-])([\w./-]+\.(?:py|js|md|proto))\b")
ABSENT = ("skyreid/__init__.py",)  # is named because it must not be there
HISTORY = ("CHANGELOG.md", "docs/LOG.md")  # they name what was there then


def anchors(page: str) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ +(.*)$", FENCED.sub("", page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


def test_every_relative_link_leads_somewhere(repository: Path, pages: dict[str, str]) -> None:
    broken = []
    for name, text in pages.items():
        for target in LINK.findall(FENCED.sub("", text)):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            found = ((repository / name).parent / path).resolve() if path else repository / name
            if not found.exists() or not found.is_relative_to(repository.resolve()):
                broken.append(f"{name}: {target}")
            elif anchor and anchor not in anchors(found.read_text()):
                broken.append(f"{name}: {target}: no such heading")
    assert broken == []


def test_every_file_that_a_page_names_exists(repository: Path, pages: dict[str, str]) -> None:
    """By its whole path, by ``role/part.py`` without the namespace, or by the end of its path."""
    tracked = {
        str(path.relative_to(repository))
        for folder in ("contract", "bundle", "train", "export", "edge", "server", "tests")
        for path in (repository / folder).rglob("*.*")
    } | {str(p.relative_to(repository)) for p in repository.glob("*/*.*")}
    ends = {"/".join(parts[i:]) for p in tracked if (parts := p.split("/")) for i in range(9)}
    unknown = []
    for name, text in pages.items():
        if name in HISTORY:
            continue
        for said in set(NAMED.findall(LINKED.sub("", text))) - set(ABSENT):
            role, *rest = PurePosixPath(said).parts
            whole = "/".join((role, "skyreid", role, *rest))
            if said not in ends and whole not in tracked and not (repository / said).exists():
                unknown.append(f"{name}: {said}")
    assert unknown == []


def test_every_decision_is_found_by_the_design_and_says_why(pages: dict[str, str]) -> None:
    decisions = {n: t for n, t in pages.items() if n.startswith("docs/decisions/")}
    linked = re.findall(r"\(decisions/([\w-]+\.md)\)", pages["docs/design.md"])
    assert sorted(f"docs/decisions/{name}" for name in linked) == sorted(decisions)
    for name, text in decisions.items():
        assert re.match(r"# .*\?\n", text), f"{name}: a decision begins with its question"
        for part in ("Question", "Measured", "Taken", "Costs", "What would change our mind"):
            assert text.count(f"**{part}") == 1, f"{name}: {part}"
        assert len(text.splitlines()) <= 40, f"{name}: a decision is short"
