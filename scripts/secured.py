"""The demo with certificates, TLS and log-in, by the commands of docs/security.md.

An authority of its own, mutual TLS at the broker, each device enrolled with a token that works
once, whose sightings are sealed, TLS of the API, and a token without which it says nothing.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from settings_files import Plan, at_our_user, q

from skyreid.contract.errors import InputError
from skyreid.contract.site import read_site

HOST = "localhost"
WHO = "demo"


@dataclass(frozen=True)
class Secured:
    """What a secured chain has beside an open one."""

    work: Path
    token: str
    """An admin's, for the demo's own questions."""

    @property
    def authority(self) -> Path:
        """The folder of the authority."""
        return self.work / "authority"

    def trust(self) -> ssl.SSLContext:
        """Who is believed to be the server."""
        return ssl.create_default_context(cafile=self.authority / "ca.pem")

    def link(self) -> str:
        """An address that logs a browser in, once."""
        return _run("server", "token", "link", str(self.work / "server.toml"), WHO)


def secure(plan: Plan, enrol_port: int) -> Secured:
    """Make everything, and write it into the settings that an open chain has.

    Raises:
        InputError: a command failed; its last line.
    """
    work = plan.work
    folder = work / "authority"
    site = read_site(plan.site or work / "site.toml").id
    hosts = ["--host", HOST, "--host", "127.0.0.1"]
    port = ["--port", str(plan.broker_port)]
    _run("server", "certs", "init", str(folder), "--site", site, *hosts, *port)
    conf = (folder / "mosquitto.conf").read_text()
    (work / "mosquitto.conf").write_text(conf + at_our_user())
    (work / "broker").rmdir()  # what the broker keeps lies beside its settings
    broker = f'url = "mqtts://{HOST}:{plan.broker_port}"\nca = {q(folder / "ca.pem")}\n'
    broker += f"certificate = {q(folder / 'server.pem')}\nkey = {q(folder / 'server.key')}\n"
    web = f'address_file = "address.txt"\ncertificate = {q(folder / "http.pem")}\n'
    _replace(work / "server.toml", "[mqtt]", broker)
    _add(work / "server.toml", "[http]", web + f"key = {q(folder / 'http.key')}\n")
    with open(work / "server.toml", "a") as settings:
        settings.write(f"\n[authority]\nfolder = {q(folder)}\nsealed_only = true\n")
    _enrol(plan, folder, enrol_port)
    token = _run("server", "token", "create", str(work / "server.toml"), WHO, "--role", "admin")
    return Secured(work, token)


def _enrol(plan: Plan, folder: Path, port: int) -> None:
    """Give each device its certificate, by the service that signs for whoever has a token."""
    names = [f"device-{video.camera}" for video in plan.videos]
    serving = [sys.executable, "-m", "skyreid.server", "certs", "serve", str(folder)]
    serving += ["--listen", "127.0.0.1", "--enrol-port", str(port)]
    with open(plan.work / "logs" / "enrolment.log", "ab") as log:
        service = subprocess.Popen(
            serving, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        said = _run("server", "certs", "device", str(folder), *names, "--enrol-port", str(port))
        tokens = dict(line.split() for line in said.splitlines())
        end = time.monotonic() + 60
        for video, name in zip(plan.videos, names, strict=True):
            out = plan.work / "devices" / name
            while True:
                try:
                    settings = _run("edge", "enrol", "-", "--out", str(out), given=tokens[name])
                    break
                except InputError:
                    if time.monotonic() > end or service.poll() is not None:
                        raise
                    time.sleep(0.2)  # it does not listen yet
            device = plan.work / f"{video.camera}.toml"
            mqtt, _, spool = settings.partition("[mqtt]\n")[2].partition("[spool]\n")
            # The service is there for the tokens: for as long as a demo lives nothing is renewed.
            kept = [line for line in mqtt.splitlines() if not line.startswith("enrolment")]
            _replace(device, "[mqtt]", "\n".join(kept))
            _add(device, "[spool]", f"{spool}\n")
    finally:
        service.terminate()
        service.wait()


def _run(role: str, *words: str, given: str = "") -> str:
    """What a command says."""
    command = [sys.executable, "-m", f"skyreid.{role}", *words]
    done = subprocess.run(
        command, input=given, capture_output=True, text=True, check=False, env={**os.environ}
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason was given"])[-1]
        raise InputError(f"skyreid-{role} {' '.join(words[:2])}: {why}")
    return done.stdout.strip()


def _replace(file: Path, heading: str, lines: str) -> None:
    """Give a section of a settings file other lines."""
    before, _, rest = file.read_text().partition(f"{heading}\n")
    after = rest[rest.index("\n[") + 1 :] if "\n[" in rest else ""
    file.write_text(f"{before}{heading}\n{lines.rstrip()}\n{after}")


def _add(file: Path, heading: str, lines: str) -> None:
    """Give a section of a settings file more lines."""
    file.write_text(file.read_text().replace(f"{heading}\n", f"{heading}\n{lines}"))
