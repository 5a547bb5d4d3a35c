"""Heads of the audit log: when they have left, and whose they are."""

import json
import threading
import time
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.server.audit.heads import Heads, sender
from skyreid.server.audit.line import Entry, read_line
from skyreid.server.audit.log import DAY_NS, AuditLog, segments
from skyreid.server.audit.options import AuditOptions
from skyreid.server.audit.verify import read_anchors, too_early, verify
from skyreid.server.counters import Metrics


def test_the_head_leaves_and_the_last_one_too(tmp_path: Path) -> None:
    log, metrics = AuditLog(tmp_path / "a"), Metrics()
    sent: list[str] = []
    log.append(Entry("start", "server"))
    told = threading.Event()

    def send(text: str) -> bool:
        sent.append(text)
        if len(sent) == 1:
            raise OSError(5, "away")
        told.set()
        return True

    heads = Heads(log, "plaza", send, metrics, every_s=0.01)
    heads.start()
    assert told.wait(200)
    last = log.append(Entry("stop", "server"))
    heads.stop()
    log.close()
    assert json.loads(sent[-1]) | {"at": ""} == {"site": "plaza", **last._asdict(), "at": ""}
    assert "skyreid_audit_failures_total 1.0" in metrics.text()[0].decode()
    path = tmp_path / "heads"
    path.write_text("".join(f"Nov 30 host skyreid-audit[7]: {text}\n" for text in sent))
    assert verify(tmp_path / "a", read_anchors(path, "plaza")).wrong == []
    path.write_text("nothing\n")
    with pytest.raises(InputError, match="holds no head"):
        read_anchors(path, "plaza")


def test_a_head_that_waits_for_the_broker_has_not_left(tmp_path: Path) -> None:
    """The moment at which it last left went on while the broker was away."""
    log, metrics, there = AuditLog(tmp_path / "a"), Metrics(), [True]
    log.append(Entry("start", "server"))
    send = sender(AuditOptions(), "plaza", lambda _topic, _body: there[0])
    heads = Heads(log, "plaza", send, metrics)
    heads.tell()

    def left() -> tuple[float | None, float | None]:
        read = metrics.registry.get_sample_value
        return read("skyreid_audit_head_timestamp_seconds"), read("skyreid_audit_lines")

    before = left()
    assert before[1] == 1
    there[0] = False
    log.append(Entry("search", "ana"))
    heads.tell()
    assert left() == before
    there[0] = True
    heads.tell()
    assert left()[1] == 2
    log.close()


def test_heads_of_another_site_in_the_same_file_accuse_nobody(tmp_path: Path) -> None:
    """``mosquitto_sub -t 'skyreid/v1/+/audit/head'`` collects those of all."""
    log, other, rows = AuditLog(tmp_path / "a"), AuditLog(tmp_path / "b"), list[str]()
    for each, site, count in ((log, "plaza", 4), (other, "port", 9)):
        for _ in range(count):
            each.append(Entry("search", "ana"))
        Heads(each, site, lambda text: bool(rows.append(text)), Metrics()).tell()
        each.close()
    path = tmp_path / "heads"
    path.write_text("\n".join(rows))
    assert verify(tmp_path / "a", read_anchors(path, "plaza")).wrong == []
    assert verify(tmp_path / "b", read_anchors(path, "port")).wrong == []
    assert verify(tmp_path / "a", read_anchors(path, "port")).wrong
    with pytest.raises(InputError, match="no head of the audit log of site 'elsewhere'"):
        read_anchors(path, "elsewhere")


@pytest.mark.parametrize("ahead_d", [0, 4000])
def test_a_cut_that_somebody_appended_is_no_retention(tmp_path: Path, ahead_d: int) -> None:
    """The lines before it went, and ``verify --anchor`` said that all was good."""
    folder, now_ns = tmp_path / "a", [time.time_ns()]
    log, rows = AuditLog(folder, segment_bytes=1000, now_ns=lambda: now_ns[0]), list[str]()
    heads = Heads(log, "plaza", lambda text: bool(rows.append(text)), Metrics())
    for _ in range(12):
        log.append(Entry("search", "ana"))
        heads.tell()
    gone = segments(folder)[0]
    last = read_line(gone.read_bytes().splitlines()[-1])
    now_ns[0] += ahead_d * DAY_NS  # what the line says of when it was
    log.append(Entry("cut", what=f"through {last.n} {last.hash}"))
    heads.tell()
    log.close()
    gone.unlink()
    path = tmp_path / "heads"
    path.write_text("\n".join(rows))
    anchors = read_anchors(path, "plaza")
    assert verify(folder, anchors).wrong == []
    explained, cut = too_early(anchors, folder, 365, 1000 << 20)
    assert explained == []
    assert "fewer than audit.max_mb" in cut[0]
