"""One life of a server with TLS and tokens, by its real commands; and a scan of what it leaves."""

import base64
import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from certificates import Authority
from small_site import JPEG

from skyreid.server.audit.log import folder_of
from skyreid.server.audit.verify import lines, read_anchors, verify

PASSWORD = "a-password-of-the-broker"
PICTURE = "/v1/pictures/uav1/1-abcd/cam1/1"


class Secured:
    """The server over TLS, and what was said to it and by it."""

    def __init__(self, server: Any, authority: Authority) -> None:
        self.server, self.authority = server, authority
        self.said: list[bytes] = []
        """Everything that a command printed, and every answer but pictures."""
        certificate, self.key = authority.sign("http")
        self.key_lines = self.key.read_bytes().splitlines()[1:-1]
        text = server.settings.read_text().replace("[http]\n", self._http(certificate))
        text = text.replace("[mqtt]\n", '[mqtt]\nusername = "server"\n')
        server.settings.write_text(text + "[audit]\npurpose_required = true\n")

    def _http(self, certificate: Path) -> str:
        return f'[http]\nnames = ["localhost"]\ncertificate = "{certificate}"\nkey = "{self.key}"\n'

    def command(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        verbs, rest = words[:2], words[2:]
        done = subprocess.run(
            [sys.executable, "-m", "skyreid.server", *verbs, str(self.server.settings), *rest],
            capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        return done

    def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx.Response:
        address = (self.server.directory / "address.txt").read_text().strip()
        port = address.rpartition(":")[2]
        headers = {**more.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        trust = ssl.create_default_context(cafile=self.authority.ca)
        url = f"https://localhost:{port}{path}"
        got = httpx.request(method, url, headers=headers, verify=trust, timeout=100, **more)
        if not (path.startswith("/v1/pictures") and got.status_code == 200):
            self.said.append(got.content)
        return got


@pytest.fixture
def secured(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Secured:
    (tmp_path / "ca").mkdir()
    monkeypatch.setenv("SKYREID_SERVER_MQTT__PASSWORD", PASSWORD)
    return Secured(server, Authority(tmp_path / "ca", "ca"))


def needles(secrets: list[str], vectors: list[Any], key: list[bytes]) -> dict[str, bytes]:
    """What may stand nowhere: bytes of each, and its usual spellings."""
    found = {f"secret {n}": text.encode() for n, text in enumerate(secrets)}
    found |= {f"line {n} of a key": row for n, row in enumerate(key)}
    found["password"] = PASSWORD.encode()
    for name, whole in [("picture", JPEG), *((f"vector {n}", v) for n, v in enumerate(vectors))]:
        raw = whole if isinstance(whole, bytes) else whole.tobytes()
        found[name] = raw[:16]
        found[f"{name} in hex"] = raw[:16].hex().encode()
        found[f"{name} in base 64"] = base64.b64encode(raw[:15])
    found["head of a JPEG"] = b"\xff\xd8\xff"
    for n, vector in enumerate(vectors):
        found[f"number of vector {n}"] = repr(float(vector[3])).encode()[:9]
    return found


def test_a_site_with_tls_and_tokens_and_nothing_secret_in_what_it_leaves(
    secured: Secured, device: Any, make: Any, wait: Callable[..., Any], tmp_path: Path
) -> None:
    server = secured.server
    secret = secured.command("token", "create", "ana", "--role", "officer").stdout.strip()
    short = secured.command("token", "create", "late", "--role", "admin", "--days", "1e-9")
    viewer = secured.command("token", "create", "vi", "--role", "viewer").stdout.strip()
    server.start("--mqtt.password", PASSWORD, ready=False)
    uav = device("uav1", ["skyreid/v1/plaza/audit/#"])
    why = {"Skyreid-Purpose": "a bag was stolen", "Skyreid-Case": "2026-17"}

    def ready() -> bool:
        return bool(secured.ask("GET", "/readyz", viewer).status_code == 200)

    wait("the server is ready", ready)
    sightings = [make.sighting(n, person=n) for n in (1, 2, 3)]
    uav.send("sightings", make.payload(sightings))
    wait("receipts", lambda: len(uav.received()) == 3)
    uav.send("picture", JPEG, boot="1-abcd", camera="cam1", track="1", seq="1", revision="0",
        captured_at_ns=str(make.start_ns))  # fmt: skip
    similar = PICTURE.replace("pictures", "similar")
    wait("a search", lambda: secured.ask("GET", similar, secret, headers=why).json()["similar"])
    secured.ask("GET", PICTURE, secret, headers=why)

    # Wrong in every way, with secrets where none belongs.
    assert secured.ask("GET", "/v1/site").status_code == 401
    assert secured.ask("GET", "/v1/site", short.stdout.strip()).status_code == 401
    assert secured.ask("GET", f"/v1/identities?cursor={secret}", secret).status_code == 400
    assert secured.ask("GET", "/v1/identities?limit=x", secret, headers=why).status_code == 422
    assert secured.ask("GET", similar, viewer, headers=why).status_code == 403
    assert secured.ask("POST", "/v1/session", json={"token": [secret]}).status_code == 422
    secured.ask("GET", PICTURE, secret, headers={**why, "Skyreid-Purpose": f"for {secret}"})
    url = "/v1/tracklets/uav1/1-abcd/cam1/9?reason=asked"
    assert secured.ask("DELETE", url, secret, headers=why).status_code == 404

    link = secured.command("token", "link", "ana").stdout.strip()
    word = re.fullmatch(r"https://localhost:\d+/#link=(.+)", link)
    assert word is not None
    said = len(secured.said)
    login = secured.ask("POST", "/v1/session", json={"link": word[1]})
    del secured.said[said:]  # it has to say the word against forged requests
    cookie = login.headers["set-cookie"].partition(";")[0]
    assert cookie.startswith("__Host-skyreid=")
    assert secured.ask("POST", "/v1/session", json={"link": word[1]}).status_code == 401
    held = {"Cookie": cookie}
    assert secured.ask("GET", PICTURE, headers=held).status_code == 400
    stated = {"purpose": "a bag was stolen", "case": "2026-17"}
    forged = secured.ask("PUT", "/v1/session/purpose", headers=held, json=stated)
    assert forged.status_code == 403

    # Another certificate without a restart, and one that is none.
    again = Authority(tmp_path / "ca", "other")
    again.sign("http")
    server._process.send_signal(signal.SIGHUP)
    wait("a reload", lambda: "reloaded changed=" in server.log.read_text())
    with pytest.raises(httpx.ConnectError, match="certificate"):
        secured.ask("GET", "/healthz")
    secured.authority = again
    assert secured.ask("GET", "/healthz").status_code == 200
    secured.key.write_text("none")
    server._process.send_signal(signal.SIGHUP)
    wait("a refusal", lambda: "not reloaded" in server.log.read_text())
    assert secured.ask("GET", "/healthz").status_code == 200
    port = (tmp_path / "address.txt").read_text().strip().rpartition(":")[2]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=100)

    metrics = secured.ask("GET", "/metrics", viewer).text
    assert "skyreid_http_certificate_days_left NaN" not in metrics
    processes = b""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            own = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            processes += own if b"skyreid.server" in own else b""
    wait("a head", lambda: uav.heard)
    assert server.stop() == 0
    wait("the last head", lambda: len({body for _, body, _ in uav.heard}) >= 2)

    anchors = tmp_path / "heads.jsonl"
    anchors.write_bytes(b"\n".join(body for _, body, _ in uav.heard) + b"\n")
    folder = folder_of(server.journal)
    assert verify(folder, read_anchors(anchors, "plaza")).wrong == []
    assert "good. lines 1 to" in secured.command("audit", "verify", "--anchor", str(anchors)).stdout
    shown = secured.command("audit", "show").stdout
    for words in (
        "ana (officer)  search",
        f"picture  {PICTURE}",
        "ana (officer)  erase",
        "vi (viewer)  refused",
        "late  refused",
        "ana (officer)  login",
        "server  reload",
        "token  create ana, officer, 90 days",
    ):
        assert words in shown, words
    assert all(
        json.loads(raw).get("case") == "2026-17"
        for _, raw in lines(folder)
        if json.loads(raw)["act"] in ("search", "picture", "erase")
    )

    everything = {path.name: path.read_bytes() for path in [*folder.iterdir(), server.log]}
    everything |= {
        "tokens": server.journal.with_name("journal.sqlite.tokens").read_bytes(),
        "heads": anchors.read_bytes(),
        "metrics": metrics.encode(),
        "answers and errors": b"\n".join(secured.said),
        "what is shown": shown.encode(),
        "processes": processes,
        "settings in force": secured.command("audit", "verify").stderr.encode(),
        "address": port.encode(),
    }
    assert processes
    tokens = [secret, viewer, short.stdout.strip()]
    secrets = [*tokens, *(t.split("~")[2] for t in tokens), word[1], cookie.partition("=")[2]]
    secrets.append(login.json()["csrf"])
    wanted = needles(secrets, [s.embedding for s in sightings], secured.key_lines)
    found = [
        f"{what} in {where}"
        for where, text in everything.items()
        for what, needle in wanted.items()
        if needle in text
    ]
    assert found == []

    # What was changed behind its back is named, by the command too.
    (path,) = sorted(folder.glob("audit-*"))
    path.write_bytes(path.read_bytes().replace(b'"ana"', b'"eve"', 1))
    done = secured.command("audit", "verify", "--anchor", str(anchors), code=1)
    assert "was changed: its hash does not fit it" in done.stderr
