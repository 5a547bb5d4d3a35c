"""Every setting, metric, topic, route and reason stands in its reference page, and no other does.

Settings: the example files. Metrics, HTTP routes and reasons: server/README.md. Topics:
docs/messages.md. Reasons for which a device leaves something out: edge/README.md.
"""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from prometheus_client.metrics import MetricWrapperBase
from pydantic import BaseModel

from skyreid.contract import topics
from skyreid.contract.settings import Settings
from skyreid.contract.site import Origin, Site, SiteCamera
from skyreid.edge.config import EdgeSettings
from skyreid.server.config import ServerSettings
from skyreid.server.counters import Metrics
from skyreid.server.web.device_metrics import DeviceSeries

ROLES: dict[str, type[Settings]] = {"edge": EdgeSettings, "server": ServerSettings}
HISTORY = ("CHANGELOG.md", "docs/LOG.md")


def keys_of(settings: type[Settings]) -> dict[str, str | None]:
    """Dotted key -> what its class says of it."""
    found = {}
    for name, field in settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        if inner is None:
            found[name] = field.description
        else:
            found |= {f"{name}.{key}": each.description for key, each in inner.items()}
    return found


@pytest.mark.parametrize("role", ROLES)
def test_the_example_file_has_every_setting_and_no_other(role: str, repository: Path) -> None:
    section, named = "", []
    for line in (repository / role / f"{role}.example.toml").read_text().splitlines():
        if heading := re.fullmatch(r"#? ?\[(\w+)\]", line):
            section = f"{heading[1]}."
        elif key := re.match(r"#? ?(\w+) = ", line):
            named.append(section + key[1])
    assert sorted(named) == sorted(keys_of(ROLES[role]))


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_says_what_it_is(role: str) -> None:
    assert [key for key, said in keys_of(ROLES[role]).items() if not said] == []


def test_every_setting_that_a_page_names_exists(pages: dict[str, str]) -> None:
    known = {key for settings in ROLES.values() for key in keys_of(settings)}
    sections = {key.split(".")[0] for key in known if "." in key} - {"detector"}  # a manifest's too
    unknown = [
        f"{name}: {said}"
        for name, text in pages.items()
        if name not in HISTORY
        for said in re.findall(r"`(?:--)?([a-z]+\.[a-z_]+)(?: = [^`]*)?`", text)
        if said.split(".")[0] in sections
        and said not in known
        and not said.endswith((".py", ".toml", ".json"))
    ]
    assert unknown == []


def table(page: str, heading: str) -> list[str]:
    """First cells of the table under a heading."""
    part = re.split(rf"^## {heading}$", page, flags=re.MULTILINE)[1].split("\n## ")[0]
    return [row.split(" | ")[0].removeprefix("| ") for row in part.splitlines() if "| `" in row]


def test_every_metric_is_in_the_reference_with_its_labels(pages: dict[str, str]) -> None:
    cells = table(pages["server/README.md"], "What to watch")
    named = sorted(word for cell in cells for word in re.findall(r"`([^`]+)`", cell))
    metrics = Metrics()
    exist = []
    for each in metrics.registry._collector_to_names:
        if isinstance(each, MetricWrapperBase):
            total = "_total" if type(each).__name__ == "Counter" else ""
            labels = "{" + ",".join(each._labelnames) + "}" if each._labelnames else ""
            exist.append(f"{each._name}{total}{labels}")
    for family in DeviceSeries(None).describe():  # type: ignore[arg-type]
        total = "_total" if family.type == "counter" else ""
        label = "{device}" if family.name.startswith("skyreid_device_") else ""
        exist.append(f"{family.name}{total}{label}")
    assert named == sorted(exist)


def test_every_topic_is_in_the_reference(pages: dict[str, str]) -> None:
    named = sorted(re.findall(r"^\| `([^`]+)`", pages["docs/messages.md"], re.MULTILINE))
    exist = [topics.device("{site}", "{device}", c) for c in get_args(topics.DeviceChannel)]
    exist += [topics.command("{site}", "{device}", c) for c in get_args(topics.CommandChannel)]
    exist += [topics.identity("{site}", "{identity}"), topics.rejected("{site}", "{reason}")]
    exist.append(topics.audit_head("{site}"))
    assert named == sorted(exist)


def test_every_route_is_in_the_reference(pages: dict[str, str], repository: Path) -> None:
    cells = table(pages["server/README.md"], "HTTP")
    named = sorted(cell.strip("`").split("?")[0] for cell in cells)
    web = repository / "server/skyreid/server/web"
    source = (web / "api.py").read_text() + (web / "session.py").read_text()
    routes = re.findall(r"@api\.\w+\(\s*\"([^\"]+)\"", source)
    assert named == sorted(set(routes))


def literals(files: Iterable[Path], *calls: str) -> set[str]:
    """First texts given to functions of these names in some files."""
    found: set[str] = set()
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in calls:
                texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
                found.update(t for t in texts[:1] if isinstance(t, str))
    return found


def test_every_reason_to_set_a_message_aside_is_in_the_reference(
    pages: dict[str, str], repository: Path
) -> None:
    part = pages["server/README.md"].split("Reasons for setting a message aside:")[1]
    named = set(re.findall(r"`(\w+)`", part.split(". ")[0].split(".\n")[0]))
    files = [*(repository / "server/skyreid/server/broker").glob("*.py")]
    files += (repository / "contract/skyreid/contract").glob("*.py")
    files = [file for file in files if file.name != "receipt.py"]  # which a device reads
    exist = literals(files, "MessageError", "_require", "decode_json")
    assert named == exist - {"picture-request"}  # which a device reads, too


def test_every_reason_to_leave_something_out_is_in_the_reference(
    pages: dict[str, str], repository: Path
) -> None:
    part = pages["edge/README.md"].split("Drop counters")[1].split(":", 1)[1].split("\n\n")[0]
    named = set(re.findall(r"`(\w+)`", part))
    words = set()
    for path in (repository / "edge/skyreid/edge").rglob("*.py"):
        source = path.read_text()
        words |= set(re.findall(r"drops?\.(?:add|tell)\(\s*\"(\w+)\"", source))
        words |= set(re.findall(r"dropped\[\"(\w+)\"\]", source))
    assert named == words


def test_every_key_of_the_site_file_is_in_its_reference_and_in_the_example(
    pages: dict[str, str], repository: Path
) -> None:
    cells = re.findall(r"^\| `([\w\[\] ]+)` \|", pages["docs/site.md"], re.MULTILINE)
    named = [re.sub(r"\[+(\w+)\]+ ", r"\1.", cell) for cell in cells]
    parts: dict[str, type[BaseModel]] = {"origin": Origin, "camera": SiteCamera}
    keys = [key for key in Site.model_fields if key not in parts]
    keys += [f"{name}.{key}" for name, part in parts.items() for key in part.model_fields]
    assert named == keys
    section, shown = "", set()
    for line in (repository / "edge" / "site.example.toml").read_text().splitlines():
        if heading := re.match(r"#? ?\[+(\w+)\]", line):
            section = f"{heading[1]}."
        elif key := re.match(r"#? ?(\w+) = ", line):
            shown.add(section + key[1])
    assert shown == set(keys)
