"""Whether the broker keeps to the revocation list: asked of it, and said where it does not."""

import math
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from secured_site import Site, wait_for

from skyreid.contract.broker import Address
from skyreid.server.broker import standing
from skyreid.server.broker.standing import Standing, Watcher, keeps_to_list, list_age, look
from skyreid.server.certs import mosquitto


def address(site: Site) -> Address:
    return Address("localhost", site.port, True)


def test_a_list_that_the_broker_has_not_read_since_it_was_written_is_noticed(site: Site) -> None:
    site.start_broker()
    assert keeps_to_list(address(site), site.folder) is True
    site.authority.add_tokens(["uav1"])
    site.authority.revoke("uav1")  # writes a list, and tells nobody
    assert keeps_to_list(address(site), site.folder) is False
    assert mosquitto.reload(site.authority)
    wait_for("it has read it", lambda: keeps_to_list(address(site), site.folder))


def test_a_broker_that_was_given_no_list_is_noticed(site: Site) -> None:
    conf = site.folder / "mosquitto.conf"
    lines = [line for line in conf.read_text().splitlines() if not line.startswith("crlfile")]
    conf.write_text("\n".join(lines) + "\n")
    site.start_broker()
    said = look(address(site), site.folder, site.folder / "server.pem")
    assert said.in_force is False
    (notice,) = said.notices()
    assert "who is revoked gets in" in notice


def test_where_nobody_can_tell_nothing_is_claimed(site: Site, tmp_path: Path) -> None:
    assert keeps_to_list(address(site), site.folder) is None  # no broker
    site.start_broker()
    assert keeps_to_list(Address("127.0.0.1", site.port, True), site.folder) is None  # another name
    assert keeps_to_list(address(site), tmp_path) is None  # no canary here
    assert look(address(site), None, None).notices() == []
    assert math.isnan(list_age(tmp_path / "crl.pem"))


def test_a_list_says_from_half_its_life_on_that_it_is_old(site: Site) -> None:
    crl = site.folder / "crl.pem"
    now = datetime.now(timezone.utc)
    assert list_age(crl) < 0.001
    for years, said in ((4.9, False), (5.1, True), (9.9, True)):
        age = list_age(crl, now + timedelta(days=365 * years))
        assert bool(Standing(list_age=age).notices()) is said
    (notice,) = Standing(list_age=0.52).notices()
    assert "52 % of its life" in notice
    assert Standing(days_left=29.0).notices()
    assert not Standing(True, 0.1, 200.0).notices()


def test_what_is_bad_is_looked_at_twice_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(standing, "AGAIN_S", 0.0)
    seen = iter([Standing(False), Standing(True), *[Standing(False)] * 4, Standing(True)])
    told: list[tuple[bool | None, int]] = []
    watcher = Watcher(lambda: next(seen), lambda s, n: told.append((s.in_force, len(n))))
    for _ in range(4):
        watcher.turn()
    # The first was a list of that moment, which the broker had read by the next look.
    assert told == [(True, 0), (False, 1), (False, 1), (True, 0)]
    assert caplog.text.count("who is revoked gets in") == 1


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Whose parents anybody may look into."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root starts mosquitto as its own user")
def test_mosquittos_own_user_serves_and_can_neither_sign_nor_write_there(
    open_folder: Path,
) -> None:
    import pwd

    try:
        user = pwd.getpwnam(mosquitto.USER)
    except KeyError:
        pytest.skip("mosquitto has no user here")
    site = Site(open_folder / "authority", user=True)
    try:
        site.start_broker()
        assert keeps_to_list(address(site), site.folder) is True
        pid = int((site.folder / "broker" / "mosquitto.pid").read_text())
        assert Path(f"/proc/{pid}").stat().st_uid == user.pw_uid
        site.authority.add_tokens(["uav1"])
        site.authority.revoke("uav1")
        assert mosquitto.reload(site.authority)  # it reads the list as itself
        wait_for("it has read it", lambda: keeps_to_list(address(site), site.folder))
        tries = (
            "cat ca.key", "cat state.json", "cat server.key", "cat canary.key", "ls seal",
            "touch new", "mv crl.pem x", "rm acl",
        )  # fmt: skip
        for words in tries:
            done = subprocess.run(
                ["sh", "-c", words], cwd=site.folder, user=user.pw_uid, group=user.pw_gid,
                extra_groups=[], capture_output=True,
            )  # fmt: skip
            assert done.returncode != 0, words
        os.kill(pid, signal.SIGTERM)
        wait_for("its database", (site.folder / "broker" / "mosquitto.db").is_file)
    finally:
        site.stop()
