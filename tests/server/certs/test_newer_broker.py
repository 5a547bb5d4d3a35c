"""The same site behind mosquitto 2.1 with its plugins, where there is one: every promise holds.

Debian 12 has 2.0: build 2.1, and name its program in ``SKYREID_MOSQUITTO_21``. Every other test
with a broker runs against 2.1 too where that is the first ``mosquitto`` of ``PATH``.
"""

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from secured_site import Client, Site, wait_for

from skyreid.contract import topics
from skyreid.contract.broker import Address
from skyreid.server.__main__ import main as server
from skyreid.server.broker.standing import keeps_to_list
from skyreid.server.certs import mosquitto

DENIED, TAKEN_OVER = 0x87, 0x8E


def newer() -> tuple[str, Path]:
    """A mosquitto of 2.1 or later, and the folder of its plugins."""
    program = os.environ.get("SKYREID_MOSQUITTO_21") or shutil.which("mosquitto") or ""
    said = subprocess.run([program, "-h"], capture_output=True, text=True).stdout if program else ""
    version = re.match(r"mosquitto version (\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < (2, 1):
        pytest.skip("no mosquitto of 2.1 or later: name one in SKYREID_MOSQUITTO_21")
    above = Path(program).resolve().parents[1]
    found = [*above.glob("lib/mosquitto_acl_file.so"), *above.glob("lib/*/mosquitto_acl_file.so")]
    assert found, f"{program} has no plugins below {above}/lib"
    return program, found[0].parent


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    program, plugins = newer()
    made = Site(tmp_path / "authority", "--plugins", str(plugins), program=program)
    yield made
    made.stop()


def waiting(site: Site) -> int:
    """Messages of absent clients that a kill of the broker leaves."""
    path = site.folder / "broker" / "mosquitto.sqlite3"
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
        (count,) = db.execute("SELECT count(*) FROM client_msgs").fetchone()
    return int(count)


def test_who_may_what_and_what_is_bounded(site: Site, connect: Callable[..., Client]) -> None:
    site.start_broker()
    server_pem = site.folder / "server.pem"
    listens = connect(server_pem)
    wait_for("the server is in", lambda: listens.answers == [0])
    every = topics.every_device("plaza", "health")
    listens.listen(every)
    listens.listen(mosquitto.DROPPED)
    site.authority.impersonate("uav1")  # a certificate of its name, for some minutes
    device = connect(site.folder / "kick.pem", called="skyreid-server-plaza")
    wait_for("a device is in", lambda: device.answers == [0])
    device.listen("#")
    for topic in (
        topics.device("plaza", "uav2", "health"),
        topics.device("market", "uav1", "health"),
        topics.command("plaza", "uav1", "receipt"),
        topics.identity("plaza", "ABCD1234"),
        "elsewhere",
    ):
        assert device.publish(topic) == DENIED, topic
    mine = topics.device("plaza", "uav1", "health")
    wait_for("it is heard", lambda: device.publish(mine) == 0)
    wait_for("what it says", lambda: (mine, b"x") in listens.heard)
    assert device.heard == []
    assert listens.lost == []  # nor was it put out by a borrowed name
    wait_for("the broker's count", lambda: (mosquitto.DROPPED, b"0") in listens.heard)
    assert listens.packet_max == device.packet_max == 300_000
    log = (site.folder / "log").read_text()
    assert not re.search(r"deprecated|Unable|Warning: Sqlite", log), log


def test_a_list_that_is_read_again_and_an_open_connection_that_ends(
    site: Site, connect: Callable[..., Client], tmp_path: Path
) -> None:
    site.start_broker()
    address = Address("localhost", site.port, True)
    assert keeps_to_list(address, site.folder) is True
    site.authority.add_tokens(["uav1"])
    site.authority.impersonate("uav1")
    for end in (".pem", ".key"):
        shutil.copy(site.folder / f"kick{end}", tmp_path / f"uav1{end}")
    device = connect(tmp_path / "uav1.pem")
    wait_for("it is in", lambda: device.answers == [0])
    assert server(["certs", "revoke", str(site.folder), "uav1"]) == 0
    wait_for("its connection ended", lambda: TAKEN_OVER in device.lost)
    assert keeps_to_list(address, site.folder) is True


def test_what_waits_for_an_absent_server_survives_a_kill_of_the_broker(
    site: Site, connect: Callable[..., Client], wait: Any
) -> None:
    many = 1_200  # mosquitto's own default drops beyond 1,000
    site.start_broker()
    topic = topics.device("plaza", "uav1", "health")
    away = connect(site.folder / "server.pem", kept_s=3600)
    wait_for("the server is in", lambda: away.answers == [0])
    away.listen(topic)
    wait_for("it listens", lambda: away.granted)
    away.close()
    site.authority.impersonate("uav1")
    device = connect(site.folder / "kick.pem")
    for number in range(many):
        device.send(topic, b"%d" % number)
    wait_for("the broker has all", lambda: len(device.acknowledged) == many)
    wait_for("they are on its disk", lambda: waiting(site) == many)
    site.stop_broker()  # kill -9
    site.start_broker()
    back = connect(site.folder / "server.pem", kept_s=3600)
    wait_for("all of it", lambda: len(back.heard) >= many)
    assert [int(body) for _, body in back.heard] == list(range(many))
