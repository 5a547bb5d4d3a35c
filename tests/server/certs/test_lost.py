"""A device that is gone: revoked at once, and what it could hold is said without anybody's face."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from secured_site import Site

from skyreid.contract.errors import InputError
from skyreid.contract.site import Site as SiteFile
from skyreid.edge.enrol import enrol
from skyreid.server.__main__ import main as server
from skyreid.server.audit.line import read_line
from skyreid.server.audit.log import folder_of
from skyreid.server.audit.verify import lines
from skyreid.server.broker.decoding import Message, sort_messages
from skyreid.server.certs.lost import what_it_could_hold
from skyreid.server.store.journal import Journal

HOUR_S = 3600


@pytest.fixture
def settings(site: Site, tmp_path: Path, make: Any) -> Path:
    """Of a server that heard of uav1: three people in its fullest hour, numbers 3 and 4 never."""
    said = [
        make.sighting(seq, track=track, at_s=at_s)
        for seq, track, at_s in (
            (1, 1, 0.0), (2, 2, 10.0), (5, 2, 20.0), (6, 3, 30.0), (7, 4, HOUR_S + 60.0),
        )
    ]  # fmt: skip
    topic = "skyreid/v1/plaza/dev/uav1/sightings"
    message = Message(topic, make.payload(said), {}, make.start_ns + 2 * HOUR_S * 10**9)
    batch = sort_messages([message], SiteFile(id="plaza"))
    assert not batch.refused
    journal = Journal(tmp_path / "journal.sqlite", "plaza", pictures_max_bytes=1)
    journal.store(batch.sightings, batch.heard)
    journal.close()
    (tmp_path / "site.toml").write_text('id = "plaza"\n')
    path = tmp_path / "server.toml"
    path.write_text(
        'site = "site.toml"\n[journal]\npath = "journal.sqlite"\n'
        f'[authority]\nfolder = "{site.folder}"\nsealed_only = true\n'
    )
    return path


def test_what_it_could_hold_is_bounded_by_its_fullest_hour(
    settings: Path, tmp_path: Path, make: Any
) -> None:
    now_ns = make.start_ns + (3 * HOUR_S + 60) * 10**9
    found = what_it_could_hold(tmp_path / "journal.sqlite", "uav1", now_ns)
    assert found.since_ns == make.start_ns + (HOUR_S + 60) * 10**9
    assert (found.hours, found.missing, found.boots) == (2.0, 2, 1)
    # Sightings are counted by hours of the clock, and the first of them is not the whole one.
    assert found.tracklets_max == 2 * found.tracklets_per_hour
    assert found.tracklets_per_hour == 3
    with pytest.raises(InputError, match="nothing of it ever arrived"):
        what_it_could_hold(tmp_path / "journal.sqlite", "uav9", now_ns)


def test_it_is_revoked_first_and_said_whatever_of_it_fails(
    site: Site, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(site.token("uav1", capsys), tmp_path / "uav1")
    assert server(["lost", str(settings), "uav1", "--json"]) == 2  # no broker to be told
    out, err = capsys.readouterr()
    assert "the broker does not know it" in err
    said = json.loads(out)
    assert said["device"] == "uav1"
    assert (said["missing"], said["erased"], said["sealed_only"]) == (2, 0, True)
    assert said["until"][:13] == time.strftime("%Y-%m-%dT%H", time.gmtime())
    assert {c["name"] for c in site.authority.listed() if "revoked" in c} == {"uav1"}


def test_where_nobody_can_be_revoked_it_is_still_said_what_it_could_hold(
    site: Site, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server's machine may have a copy of the authority without its key."""
    (site.folder / "ca.key").unlink()
    assert server(["lost", str(settings), "uav1", "--json"]) == 2
    out, err = capsys.readouterr()
    assert "ca.key" in err
    assert (json.loads(out)["revoked"], json.loads(out)["missing"]) == (0, 2)


def test_with_a_broker_it_is_out_and_the_report_names_no_one(
    site: Site, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(site.token("uav1", capsys), tmp_path / "uav1")
    enrol(site.token("uav2", capsys), tmp_path / "uav2")
    site.start_broker()
    assert server(["lost", str(settings), "uav1"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("uav1: 1 certificates revoked\nit could hold what it saw from 2023-")
    assert "authority.sealed_only is set" in said
    assert "whether they are sealed its health said" in said  # who is refused in clear keeps it so
    assert "embedding" not in said
    assert server(["lost", str(settings), "uav2"]) == 2  # revoked, and nothing of it ever came
    assert "nothing of it ever arrived" in capsys.readouterr().err
    assert {c["name"] for c in site.authority.listed() if "revoked" in c} == {"uav1", "uav2"}


def test_it_is_written_down_and_says_that_the_erased_are_not_with_the_device(
    site: Site, settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody could see who asked; and sightings of the erased were said never to have arrived."""
    enrol(site.token("uav1", capsys), tmp_path / "uav1")
    erase = ["erase", str(settings), "uav1/1-abcd/cam1/2", "--reason", "asked for"]
    assert server(erase) == 0
    capsys.readouterr()
    assert server(["lost", str(settings), "uav1"]) == 2  # no broker to be told
    said = capsys.readouterr().out
    assert "4 sightings of before, which never arrived\n    or arrived and were erased" in said
    assert "1 tracklets" in said
    acts = [read_line(raw).said for _, raw in lines(folder_of(tmp_path / "journal.sqlite"))]
    assert [(line["act"], line["what"]) for line in acts][-1] == ("devices", "lost uav1")


def test_what_shows_who_looked_leaves_a_line_too(
    settings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server(["quarantine", "list", str(settings)]) == 0
    assert server(["quarantine", "show", str(settings), "uav1", "1-abcd", "1"]) == 2
    assert server(["devices", "list", str(settings)]) == 0
    assert server(["audit", "show", str(settings), "--act", "quarantine"]) == 0
    shown = capsys.readouterr().out
    assert "quarantine  show uav1 1-abcd 1" in shown
    acts = [read_line(raw).said for _, raw in lines(folder_of(tmp_path / "journal.sqlite"))]
    assert [(line["act"], line["what"]) for line in acts] == [
        ("quarantine", "list"),
        ("quarantine", "show uav1 1-abcd 1"),
        ("devices", "list"),
        ("audit", "show act quarantine"),
    ]
