"""Two rendered clips of the same people an hour apart, device to page: shown, undone for good."""

import json
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from chain import Chain
from chromium import Browser, chromium
from clip import videos_of
from settings_files import q

from skyreid.synth.__main__ import main as synth

AN_HOUR_NS = 3600 * 10**9
RENDER = "--seed 41 --seconds 20 --fps 4 --people 12 --family 1 --cameras 6 --noise .4".split()
PRESS = "document.querySelector('.returned button').click()"


def eventually(answer: Callable[[], Any], what: str, timeout_s: float = 90.0) -> Any:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if found := answer():
            return found
        time.sleep(0.1)
    raise AssertionError(f"never: {what}")


def played(chain: Chain) -> None:
    """Until the only device has played its clip and the server has decided everything."""
    device = chain.start_edge("cam6", record=False)
    assert device.process.wait(240) == 0, device.tail()
    eventually(lambda: (chain.get("/readyz") or {}).get("settled"), "everything is decided")


def an_hour_later(chain: Chain, clip: Path) -> None:
    """Have the device play another clip next."""
    (before,), (after,) = chain.videos, videos_of(clip)
    settings = chain.work / "cam6.toml"
    text = settings.read_text()
    for old, new in (
        (q(before.source), q(after.source)),
        (f"= {before.start_ns}", f"= {AN_HOUR_NS + (before.start_ns or 0)}"),
    ):
        assert old in text
        text = text.replace(old, new)
    settings.write_text(text)


def listen(chain: Chain, heard: list[dict[str, Any]]) -> None:
    """Keep what ``/v1/events`` tells of returns, until the server ends."""

    def read() -> None:
        with urllib.request.urlopen(f"{chain.address}/v1/events", timeout=300) as stream:
            for line in stream:
                if line.startswith(b"data: {"):
                    event = json.loads(line.removeprefix(b"data: "))
                    heard.extend([event] if event.get("type") == "returned" else [])

    def until_the_end() -> None:
        try:
            read()
        except OSError:
            return

    threading.Thread(target=until_the_end, daemon=True).start()


def people(chain: Chain) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chain.get("/v1/identities?limit=500")["identities"]
    return found


def all_told(chain: Chain) -> list[dict[str, Any]]:
    """Who may be back, once it is no more of them for a while: two are asked for at a time."""
    before = [one for one in people(chain) if one["returns"]]
    time.sleep(5.0)
    after = [one for one in people(chain) if one["returns"]]
    return after if len(after) == len(before) else []


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    """Two visits of the same people, on other ways."""
    made = [tmp_path / "first", tmp_path / "second"]
    for visit, clip in enumerate(made):
        assert synth(["clip", str(clip), *RENDER, "--visit", str(visit)]) == 0
    return made


@pytest.mark.timeout(900)
def test_who_comes_back_after_an_hour_is_shown_and_undone_and_stays_undone(
    clips: list[Path], make_chain: Callable[..., Chain]
) -> None:
    chain = make_chain(clips[0])
    chain.start_broker()
    chain.start_server()
    heard: list[dict[str, Any]] = []
    listen(chain, heard)
    played(chain)
    first = {one["id"] for one in people(chain)}
    an_hour_later(chain, clips[1])
    played(chain)

    told = eventually(lambda: all_told(chain), "somebody may be back")
    for one in told:
        link = one["returns"]
        assert one["id"] not in first
        assert link["identity"] in first
        assert 3580 - 20 <= link["gap_s"] <= 3620
        assert link["state"] == "accepted" or link["reason"]
    for one in told:
        eventually(
            lambda one=one: [  # type: ignore[misc]
                e for e in heard if e["identity"] == one["id"]
            ],
            f"an event that {one['id']} may be back",
        )

    with chromium() as browser:
        browser.open(chain.address)
        name = undo(browser, len(told))
    undone = next(one for one in people(chain) if one["id"] == name)
    assert (undone["returns"]["state"], undone["person"]) == ("undone", name)
    eventually(lambda: heard[-1]["return"]["state"] == "undone", "an event says so")
    assert heard[-1]["identity"] == name

    assert chain.server is not None
    chain.kill(chain.server)
    chain.start_server()
    again = {one["id"]: one["returns"] for one in people(chain)}
    assert again[name]["state"] == "undone"
    assert {i["id"] for i in told} == {i for i, returns in again.items() if returns}
    with chromium() as browser:
        browser.open(chain.address)
        eventually(
            lambda: card(browser, name).endswith("somebody said so."), "the page still says it"
        )


def card(browser: Browser, name: str) -> str:
    return browser.text(f'[data-identity="{name}"].card .returned')


def undo(browser: Browser, told: int) -> str:
    """Press what undoes the first that is shown; whose it was."""
    eventually(lambda: browser.count(".card .returned") == told, "all are shown")
    eventually(lambda: browser.count(".returned img"), "with who had left")
    assert "back after" in browser.text(".card .returned").lower()
    name = str(
        browser.run(
            "return document.querySelector('.returned button').closest('.card').dataset.identity"
        )
    )
    browser.run(PRESS)
    eventually(lambda: "cannot be taken back" in card(browser, name), "it is asked again")
    browser.run(PRESS)
    eventually(lambda: card(browser, name).endswith("somebody said so."), "it is undone")
    return name
