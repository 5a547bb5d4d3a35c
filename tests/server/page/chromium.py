"""Chromium, driven by chromedriver with plain HTTP (W3C WebDriver): no further dependency."""

import base64
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


class Browser:
    """A WebDriver session, as far as these tests need one."""

    def __init__(self, driver: str, width: int = 1280, height: int = 800) -> None:
        arguments = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            "--disable-quic", "--no-first-run", "--disable-background-networking",
            "--disable-component-update", "--disable-sync", "--disable-extensions",
            f"--window-size={width},{height}",
        ]  # fmt: skip
        wanted = {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            "goog:chromeOptions": {"args": arguments},
        }
        self._session = ""
        self._driver = driver
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{made['sessionId']}"
        self.resize(width, height)

    def open(self, address: str) -> None:
        self._call("POST", "/url", {"url": address})

    def run(self, script: str, *arguments: Any) -> Any:
        return self._call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return " ".join(str(found).split())

    def count(self, selector: str) -> int:
        return int(self.run("return document.querySelectorAll(arguments[0]).length", selector))

    def press(self, key: str) -> None:
        script = "document.dispatchEvent(new KeyboardEvent('keydown', {key: arguments[0]}))"
        self.run(script, key)

    def log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self._call("POST", "/se/log", {"type": kind})
        return entries

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("GET", "/screenshot")))

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        self._call("POST", "/goog/cdp/execute", command)

    def scheme(self, name: str) -> None:
        """What the system prefers: ``light`` or ``dark``."""
        wanted = {"features": [{"name": "prefers-color-scheme", "value": name}]}
        command = {"cmd": "Emulation.setEmulatedMedia", "params": wanted}
        self._call("POST", "/goog/cdp/execute", command)

    def quit(self) -> None:
        self._call("DELETE", "")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._driver + self._session + path, data, method=method)
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:400]}") from error


def _started_driver() -> tuple[subprocess.Popen[str], str]:
    """A running chromedriver and its address.

    It takes a free port of IPv6 and then wants the same number on IPv4, where a connection of
    another test may have it ("IPv4 port not available. Exiting..."): a new start, a new number.
    """
    said = ""
    for _ in range(10):
        process = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout is not None
        for line in process.stdout:
            said += line
            if (
                "successfully on port" in line
                and (port := line.rstrip(". \n").rsplit(" ", 1)[1]).isdigit()
            ):
                return process, f"http://127.0.0.1:{port}"
        process.wait(10)
        process.stdout.close()
    pytest.fail(f"chromedriver did not start: {said}")


@contextmanager
def chromedriver() -> Iterator[str]:
    """Address of a running chromedriver. Without one the test is skipped; in CI it fails."""
    if not (shutil.which("chromedriver") and shutil.which("chromium")):
        reason = "chromium and chromedriver are not installed"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(reason)
        pytest.skip(reason)
    process, address = _started_driver()
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser of its own."""
    with chromedriver() as driver:
        browser = Browser(driver)
        try:
            yield browser
        finally:
            browser.quit()
