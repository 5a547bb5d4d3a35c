"""``scripts/demo --secure``, as far as its broker, its server and a device that wants in."""

import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import demo
import pytest
from chain import ChainError
from clip import clip_chain

from skyreid.contract.errors import InputError


def test_the_secured_chain_lets_in_who_is_known_and_nobody_else(
    repository: Path, tmp_path: Path
) -> None:
    chain = clip_chain(repository / "examples/clip", tmp_path, secure=True)
    assert chain.secured is not None
    try:
        chain.start_broker()
        chain.start_server()
        assert chain.get("/v1/session")["name"] == "demo"
        trust = chain.secured.trust()
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(chain.address + "/v1/site", timeout=60, context=trust)
        stranger = ssl.create_default_context()
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(chain.address + "/healthz", timeout=60, context=stranger)
        assert chain.secured.link().startswith("https://")
        for camera, code in (("cam1", 0), ("cam6", 1)):
            if code:  # of another device: the broker goes by the certificate
                path = tmp_path / f"{camera}.toml"
                path.write_text(path.read_text().replace('device.pem"', 'nothing.pem"'))
            asked = [
                sys.executable,
                "-m",
                "skyreid.edge",
                "doctor",
                str(tmp_path / f"{camera}.toml"),
            ]
            done = subprocess.run(asked, capture_output=True, text=True, timeout=250)
            assert bool(done.returncode) == bool(code), done.stdout + done.stderr
    finally:
        chain.stop()


def test_a_secured_run_is_scored_with_the_keys_of_its_site(monkeypatch: Any) -> None:
    """Its recordings are sealed: the demo ran to its end and failed at its report."""
    given: list[Any] = []

    def scored(*what: Any) -> None:
        given.append(what)
        raise InputError("enough")

    monkeypatch.setattr(demo, "score", scored)
    chain: Any = SimpleNamespace(
        cameras={"cam1": "aerial"},
        run_directory=Path,
        journal=Path("journal"),
        secured=SimpleNamespace(authority=Path("authority")),
    )
    with pytest.raises(ChainError, match="enough"):
        demo.score_clip(chain, Path("clip"))
    assert given == [(Path("clip"), [Path("cam1")], Path("journal"), Path("authority"))]
