"""A site with certificates: its authority, its service, a real mosquitto, and whoever connects."""

import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port, listens

from skyreid.server.__main__ import main as server
from skyreid.server.certs.authority import Authority
from skyreid.server.certs.service import Enrolment


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 200.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s:g} s: {what}"
        time.sleep(0.02)


class Site:
    """An authority, its service and its broker."""

    def __init__(
        self, folder: Path, *options: str, user: bool = False, program: str | None = None
    ) -> None:
        self.folder, self.port, self.enrol_port = folder, free_port(), free_port()
        words = ["--site", "plaza", "--host", "localhost", "--port", str(self.port)]
        assert server(["certs", "init", str(folder), *words, *options]) == 0
        self._program = program
        self.authority = Authority(folder)
        if (
            os.geteuid() == 0 and not user
        ):  # Debian's mosquitto drops to a user that may not read here
            with open(folder / "mosquitto.conf", "a") as conf:
                conf.write("user root\n")
            os.chown(folder / "broker", 0, 0)
        self.service = Enrolment(self.authority, ("127.0.0.1", self.enrol_port), 30)
        threading.Thread(target=self.service.serve_forever, daemon=True).start()
        self._process: subprocess.Popen[bytes] | None = None

    def start_broker(self) -> None:
        found = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin")
        program = self._program or found
        if program is None:
            pytest.skip("mosquitto is not installed")
        with open(self.folder / "log", "ab") as log:
            words = [program, "-c", str(self.folder / "mosquitto.conf")]
            self._process = subprocess.Popen(words, stdout=log, stderr=log)
        wait_for("mosquitto listens", lambda: listens(self.port))
        wait_for("it says who it is", (self.folder / "broker" / "mosquitto.pid").is_file)

    def token(self, device: str, capsys: pytest.CaptureFixture[str]) -> str:
        capsys.readouterr()
        words = ["certs", "device", str(self.folder), device, "--enrol-port", str(self.enrol_port)]
        assert server(words) == 0
        name, _, token = capsys.readouterr().out.strip().partition(" ")
        assert name == device
        return token

    def stop(self) -> None:
        self.service.shutdown()
        self.service.server_close()
        self.stop_broker()

    def stop_broker(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            (self.folder / "broker" / "mosquitto.pid").unlink(missing_ok=True)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "authority")
    yield made
    made.stop()


class Client:
    """Whoever has a certificate, and calls itself what it likes."""

    def __init__(self, site: Site, pem: Path, *, called: str = "x", kept_s: int = 0) -> None:
        from paho.mqtt.client import Client as Paho
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
        from paho.mqtt.packettypes import PacketTypes
        from paho.mqtt.properties import Properties

        self.answers: list[int] = []
        self.lost: list[int] = []
        self.heard: list[tuple[str, bytes]] = []
        self.acknowledged: dict[int, int] = {}
        self.granted = False
        self.packet_max: int | None = None
        self._paho = Paho(
            CallbackAPIVersion.VERSION2, client_id=called, protocol=MQTTProtocolVersion.MQTTv5
        )
        context = ssl.create_default_context(cafile=site.folder / "ca.pem")
        context.load_cert_chain(pem, pem.with_suffix(".key"))
        self._paho.tls_set_context(context)
        self._paho.on_connect = lambda *a: self._answered(*a)
        self._paho.on_subscribe = lambda *a: setattr(self, "granted", True)
        self._paho.on_disconnect = lambda *a: self.lost.append(int(a[3].value))
        self._paho.on_message = lambda _c, _d, m: self.heard.append((m.topic, bytes(m.payload)))
        self._paho.on_publish = lambda *a: self.acknowledged.update({a[2]: int(a[3].value)})
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = kept_s
        self._paho.connect("localhost", site.port, clean_start=not kept_s, properties=properties)
        self._paho.loop_start()

    def listen(self, topic: str) -> None:
        self._paho.subscribe(topic, 1)

    def send(self, topic: str, payload: bytes = b"x") -> int:
        """Its number in ``acknowledged``, sooner or later."""
        return int(self._paho.publish(topic, payload, 1).mid)

    def publish(self, topic: str, payload: bytes = b"x") -> int:
        """The broker's word about it."""
        mid = self.send(topic, payload)
        wait_for("an acknowledgement", lambda: mid in self.acknowledged)
        return self.acknowledged[mid]

    def _answered(self, *told: Any) -> None:
        self.packet_max = getattr(told[4], "MaximumPacketSize", None)
        self.answers.append(int(told[3].value))

    def close(self) -> None:
        self._paho.disconnect()
        self._paho.loop_stop()


@pytest.fixture
def connect(site: Site) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def client(*arguments: Any, **options: Any) -> Client:
        made.append(Client(site, *arguments, **options))
        return made[-1]

    yield client
    for each in made:
        each.close()


def csr_of(home: Path) -> bytes:
    """A request by the key of a device."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key = serialization.load_pem_private_key((home / "device.key").read_bytes(), None)
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)  # type: ignore[arg-type]
