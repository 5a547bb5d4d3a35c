"""The alert rules: metrics that exist, a paragraph for each, and Prometheus takes them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_site import StandingWriter

from skyreid.server.counters import Metrics
from skyreid.server.web.device_metrics import DEVICES_MAX, DeviceSeries

RULE = re.compile(
    r"^      - alert: (\w+)\n        expr: (.+)\n(?:        for: \d+[mh]\n)?"
    r"        labels: \{severity: (page|ticket)\}\n        annotations: \{summary: \".+\"\}\n",
    re.MULTILINE,
)


def series() -> DeviceSeries:
    return DeviceSeries(StandingWriter())  # type: ignore[arg-type,unused-ignore]


def exported() -> set[str]:
    """Names of all samples, whether anything was counted or not."""
    names = set()
    for family in [*Metrics().registry.collect(), *series().describe()]:
        suffixes = {"counter": ("_total",), "histogram": ("_count", "_sum", "_bucket")}
        names |= {family.name + suffix for suffix in suffixes.get(family.type, ("",))}
    return names


def test_every_alert_is_of_metrics_that_exist_and_has_a_paragraph(repository: Path) -> None:
    text = (repository / "server" / "alerts.yml").read_text()
    rules = RULE.findall(text)
    assert len(rules) == text.count("- alert:") > 10  # each is understood
    wrong = [
        (name, metric)
        for name, expression, _severity in rules
        for metric in re.findall(r"\bskyreid_\w+", expression)
        if metric not in exported()
    ]
    assert wrong == []
    runbook = (repository / "docs" / "runbook.md").read_text()
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == [name for name, _, _ in rules]


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool") or shutil.which(
        "promtool", path=str(Path(sys.executable).parent)
    )
    if found is None:
        pytest.skip(
            "promtool is not installed (scripts/setup dev takes it from Debian's prometheus)"
        )
    return found


def test_prometheus_takes_the_rules(repository: Path, promtool: str) -> None:
    rules = repository / "server" / "alerts.yml"
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_disk_in_clear_is_an_alert_where_the_site_has_a_key(
    repository: Path, promtool: str, tmp_path: Path
) -> None:
    """The gauge was there, and nobody was told of it."""
    given = Path(__file__).with_name("alerts_test.yml").read_text()
    path = tmp_path / "alerts_test.yml"
    path.write_text(given.replace("RULES", str(repository / "server" / "alerts.yml")))
    done = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_series_of_devices_are_bounded_in_number() -> None:
    collector = series()
    devices = collector._writer.devices
    for number in range(DEVICES_MAX + 6):  # and the one of the small site
        devices.status(f"dev{number:05}", True, 1)
    families = {family.name: family for family in collector.collect()}
    assert len(families["skyreid_device_online"].samples) == DEVICES_MAX
    assert families["skyreid_devices_unlisted"].samples[0].value == 7
