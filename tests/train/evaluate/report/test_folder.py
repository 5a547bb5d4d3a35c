import json
import re
import resource
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from unittest.mock import Mock

import cv2
import pytest

from skyreid.contract.errors import InputError
from skyreid.train.evaluate import metrics, tables
from skyreid.train.evaluate.bootstrap import difference
from skyreid.train.evaluate.protocols import Report
from skyreid.train.evaluate.report import folder, ranklists

VOID = {"meta", "img", "br"}


class Outline(HTMLParser):
    """Tags that are open, and everything that stands in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def written(report: Report, where: Path) -> Outline:
    page = folder.write(report, where, "skyreid-train evaluate 'a&b' --data \"x\"")
    outline = Outline()
    outline.feed(page.read_text("utf-8"))
    outline.close()
    assert outline.open == []
    return outline


def test_the_page_stands_alone_and_shows_pictures_that_are_there(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    outline = written(make_report(), tmp_path / "out")
    assert {tag for tag, _ in outline.tags} & {"script", "link", "iframe", "object"} == set()
    css = (tmp_path / "out" / "index.html").read_text()
    assert not re.search(r"url\(|@import|https?:", css)
    sources = {attrs["src"] for tag, attrs in outline.tags if tag == "img"}
    files = {f"pictures/{p.name}" for p in (tmp_path / "out" / "pictures").iterdir()}
    assert sources == files
    assert all(attrs.get("alt") for tag, attrs in outline.tags if tag == "img")


def test_frames_tell_right_from_wrong_as_the_lists_do(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = make_report()
    outline = written(report, tmp_path / "out")
    frames = [str(attrs["class"]).split()[0] for tag, attrs in outline.tags if tag == "figure"]
    wanted = {"query": 0, "right": 0, "wrong": 0}
    for outcome in ranklists.shown(report.ranked, report.outcomes):
        for found in (
            *ranklists.sample(report.ranked, outcome),
            *ranklists.hardest(report.ranked, outcome),
        ):
            wanted["query"] += 1
            right = sum(hit.right for hit in found.hits)
            wanted["right"] += right + (found.first.rank > len(found.hits))
            wanted["wrong"] += len(found.hits) - right
    assert {kind: frames.count(kind) for kind in wanted} == wanted
    assert wanted["right"] > 20 < wanted["wrong"]


def test_pictures_are_those_of_their_records(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = make_report()
    written(report, tmp_path / "out")
    for path in list((tmp_path / "out" / "pictures").iterdir())[:20]:
        shown = cv2.imread(str(path))
        source = cv2.imread(str(report.records[int(path.stem)].path))
        assert shown.shape == source.shape
        assert abs(shown.mean((0, 1)) - source.mean((0, 1))).max() < 4


def test_names_from_outside_are_text(make_report: Callable[..., Report], tmp_path: Path) -> None:
    name = "<b onclick=x>&\"'"
    outline = written(make_report(name), tmp_path / "out")
    assert all("onclick" not in attrs for _, attrs in outline.tags)
    assert name in outline.text
    assert "skyreid-train evaluate 'a&b' --data \"x\"" in outline.text
    assert "a&b.safetensors" in outline.text
    assert any("person <3>" in str(attrs.get("alt")) for _, attrs in outline.tags)


def test_a_name_that_is_no_unicode_does_not_stop_the_page(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    assert "odd\\udcff" in written(make_report("odd\udcff"), tmp_path / "out").text


def test_every_part_is_there_with_the_numbers_of_the_json(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = make_report()
    outline = written(report, tmp_path / "out")
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers == json.loads(json.dumps(tables.as_json(report.outcomes)))
    for title in (
        "Protocols", "Cumulative match", "With the query's camera left out", "By aerial camera",
        "By cue", "Rank lists", "Hardest failures",
    ):  # fmt: skip
        assert title in outline.text
    for row in (*numbers.values(), numbers["ALL"]["without_query_camera"]):
        assert f"{row['rank1']:.1f}" in outline.text
        low, high = row["mAP_interval"]
        assert f"{low:.1f}–{high:.1f}" in outline.text


def test_an_earlier_report_is_written_over_and_nothing_else(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    where = tmp_path / "out"
    written(make_report(seed=1), where)
    (where / "pictures" / "9999.jpg").write_bytes(b"of an earlier one")
    (where / "notes.txt").write_text("mine")
    outline = written(make_report(seed=2), where)
    sources = {attrs["src"] for tag, attrs in outline.tags if tag == "img"}
    assert sources == {f"pictures/{p.name}" for p in (where / "pictures").iterdir()}
    assert (where / "notes.txt").read_text() == "mine"
    assert sorted(p.name for p in where.iterdir()) == [
        "index.html", "metrics.json", "notes.txt", "pictures",
    ]  # fmt: skip


def test_a_report_that_was_interrupted_says_so_and_is_written_again(
    make_report: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = tmp_path / "out"
    written(make_report(seed=1), where)
    with monkeypatch.context() as broken:
        broken.setattr(folder, "read_rgb", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            folder.write(make_report(seed=2), where, "again")
    assert "interrupted" in (where / "index.html").read_text()
    assert "Protocols" in written(make_report(seed=2), where).text


def test_a_metric_that_is_entered_once_has_a_column_on_the_page(
    make_report: Callable[..., Report], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(metrics.MEANS, "a seventh", lambda ranks: 1 / 7)
    outline = written(make_report(), tmp_path / "out")
    assert "a seventh" in outline.text
    assert "14.3" in outline.text


def test_a_comparison_is_on_the_page_and_in_the_numbers(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    report = make_report()
    better = report.outcomes[0].measures
    gain = difference(better, replace(better, values=better.values * 0.5))
    report = replace(report, against={"other<": "bundle 1234"}, gained={"ALL": gain})
    outline = written(report, tmp_path / "out")
    assert "other<" in outline.text
    assert f"{100 * gain.average_precision:+.1f}" in outline.text
    numbers = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert numbers["ALL"]["against"]["mAP"] == 100 * gain.average_precision


def test_a_folder_of_something_else_is_left_alone(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<title>mine</title>")
    for where, said in ((tmp_path / "site", "holds files"), (tmp_path / "file", "is a file")):
        (tmp_path / "file").write_text("x")
        with pytest.raises(InputError, match=said):
            folder.write(make_report(), where, "again")
    assert (tmp_path / "site" / "index.html").read_text() == "<title>mine</title>"
    (tmp_path / "empty").mkdir()
    folder.prepare(tmp_path / "empty")
    folder.prepare(tmp_path / "new" / "deep")


def test_a_report_on_a_full_disk_is_one_line_and_the_next_one_takes_its_place(
    make_report: Callable[..., Report], tmp_path: Path
) -> None:
    report, where = make_report(), tmp_path / "report"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 9, limits[1]))
    try:
        with pytest.raises(InputError, match=r"report: cannot be written: File too large$"):
            folder.write(report, where, "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    written(report, where)
