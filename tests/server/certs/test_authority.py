"""The authority's folder: what is written when, by whom, and what a mistake leaves."""

import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from skyreid.contract.errors import InputError
from skyreid.contract.files import FileLock
from skyreid.server.__main__ import main
from skyreid.server.certs import service
from skyreid.server.certs.authority import Authority
from skyreid.server.certs.service import Enrolment


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    folder = tmp_path / "authority"
    assert main(["certs", "init", str(folder), "--site", "plaza", "--host", "localhost"]) == 0
    return Authority(folder)


def test_what_init_prints_for_the_server_is_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "authority"
    assert main(["certs", "init", str(folder), "--site", "plaza", "--host", "localhost"]) == 0
    settings = capsys.readouterr().out.split("these sections:")[1]
    (tmp_path / "site.toml").write_text('id = "plaza"\n')
    (tmp_path / "server.toml").write_text(f'site = "site.toml"\njournal.path = "j"\n{settings}')
    assert main(["check", str(tmp_path / "server.toml"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["mqtt"]["url"] == "mqtts://localhost:8883"
    for section, key in (("mqtt", "ca"), ("mqtt", "key"), ("http", "key"), ("authority", "folder")):
        assert Path(told[section][key]).exists()


def enrol(authority: Authority, name: str) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    csr = request.public_bytes(serialization.Encoding.PEM)
    return authority.enrol(authority.add_tokens([name])[0], csr, 1)[1]


def test_one_that_cannot_be_revoked_keeps_no_other_in(
    authority: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("uav1", "uav2"):
        enrol(authority, name)
    assert main(["certs", "revoke", str(authority.folder), "nobody", "uav1", "uav2"]) == 2
    said = capsys.readouterr().err  # no broker runs
    assert all(f"device '{name}'" in said for name in ("nobody", "uav1", "uav2"))
    assert {c["name"] for c in authority.listed() if "revoked" in c} == {"uav1", "uav2"}
    listed = {c["serial"] for c in authority.listed() if "revoked" in c}
    crl = x509.load_pem_x509_crl(authority.path("crl.pem").read_bytes())
    on_it = {f"{each.serial_number:x}" for each in crl}
    assert listed <= on_it
    assert len(on_it - listed) == 2  # the canary of this list, and the one before


def test_the_list_is_written_by_one_at_a_time_and_can_be_read_whatever_the_umask(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(authority, "uav1")
    write, locked = Authority._write_list_of, []

    def written(self: Authority, certificates: Any) -> None:
        with pytest.raises(InputError, match="is in use"):
            FileLock(self.path("state.lock"), of="it")
        locked.append(True)
        write(self, certificates)

    monkeypatch.setattr(Authority, "_write_list_of", written)
    before = os.umask(0o077)
    try:
        authority.revoke("uav1")
    finally:
        os.umask(before)
    assert locked
    assert authority.path("crl.pem").stat().st_mode & 0o777 == 0o644


def test_mosquitto_s_user_reads_what_init_makes_for_it_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "srv" / "authority"
    before = os.umask(0o077)
    try:
        assert main(["certs", "init", str(folder), "--site", "plaza", "--host", "localhost"]) == 0
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert {modes[name] for name in ("mosquitto.conf", "acl", "ca.pem", "broker.pem")} == {0o644}
    assert {modes[name] for name in ("ca.key", "server.key", "state.json")} == {0o600}
    assert [each.stat().st_mode & 0o777 for each in (folder, folder.parent)] == [0o755, 0o755]


def test_a_folder_that_is_damaged_is_said_and_no_defect(authority: Authority) -> None:
    authority.path("state.json").write_text("{")
    with pytest.raises(InputError, match=r"authority .*: state\.json"):
        enrol(authority, "uav1")


@pytest.mark.parametrize(
    ("site", "host"), [("a" * 44, "localhost"), ("plaza", "b\u00fccher"), ("plaza", "a b")]
)
def test_names_that_no_certificate_can_have_leave_no_half_authority(
    site: str, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "authority"
    assert main(["certs", "init", str(folder), "--site", site, "--host", host]) == 2
    assert (site if host == "localhost" else "--host") in capsys.readouterr().err
    assert not folder.exists()


@pytest.fixture
def serving(authority: Authority) -> Iterator[Enrolment]:
    made = Enrolment(authority, ("127.0.0.1", 0), 1)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def connected(serving: Enrolment) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=serving.authority.path("ca.pem"))
    bare = socket.create_connection(("127.0.0.1", serving.server_port), timeout=60)
    return context.wrap_socket(bare, server_hostname="localhost")


def test_the_service_shows_a_renewed_certificate_without_a_restart(serving: Enrolment) -> None:
    def shown() -> bytes | None:
        with connected(serving) as link:
            return link.getpeercert(binary_form=True)

    before = shown()
    serving.authority.renew(2)
    assert shown() != before


def speak_slowly(link: ssl.SSLSocket) -> None:
    """A byte every tenth of a second, for a minute, or until the other end has enough."""
    link.settimeout(0.1)
    for _ in range(600):
        link.send(b"x")
        with suppress(TimeoutError):
            if not link.recv(1):
                raise ConnectionResetError


def test_whoever_speaks_slowly_or_is_one_too_many_is_left(
    authority: Authority, monkeypatch: pytest.MonkeyPatch, serving: Enrolment
) -> None:
    monkeypatch.setattr(service, "TIMEOUT_S", 1.0)
    with connected(serving) as slow, pytest.raises(OSError):  # noqa: PT011  reset or broken pipe
        speak_slowly(slow)
    for _ in range(service.CONNECTIONS_MAX):
        assert serving._free.acquire(timeout=60)
    with pytest.raises(OSError):  # noqa: PT011  as above
        connected(serving)
    serving._free.release()
    connected(serving).close()
