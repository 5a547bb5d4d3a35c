"""Two hours at a site, told by devices to a real server: who came back is shown, and undone."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest

from skyreid.contract.device import Birth, BirthCamera, encode_birth
from skyreid.contract.sighting import Kind, ModelRef

WIDE = 64


@pytest.fixture
def seen(make: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """A message of who is in cam1's picture for 20 s, by (person, seconds)."""
    monkeypatch.setattr(type(make), "model", ModelRef("0123456789abcdef", WIDE, "ab" * 32, "tiny"))

    def told(people: dict[int, float], first: int) -> bytes:
        sightings = []
        for seq, (person, at_s) in enumerate(people.items(), first):
            look = np.random.default_rng(person).normal(size=WIDE)
            look += 0.2 * np.random.default_rng([1, seq]).normal(size=WIDE)
            begin_ns = make.start_ns + round(at_s * 1e9)
            sightings.append(
                make.sighting(
                    seq,
                    kind=Kind.END,
                    first_seen_ns=begin_ns,
                    captured_at_ns=begin_ns + 20 * 10**9,
                    embedding=(look / np.linalg.norm(look)).astype(np.float32),
                    ground=None,
                    crops=6,
                )
            )
        return bytes(make.payload(sightings))

    return told


def test_who_comes_back_an_hour_later_is_shown_and_undone_and_stays_undone(
    server: Any, device: Any, make: Any, wait: Callable[..., Any], seen: Callable[..., bytes]
) -> None:
    server.start()
    uav = device("uav1", ["skyreid/v1/plaza/identity/#"])
    camera = BirthCamera(id="cam1", view="aerial")
    uav.send("birth", encode_birth(Birth(boot="1-abcd", model=make.model, cameras=(camera,))))
    people = {person: 40.0 * person for person in range(60)}  # one clip of them, ...
    again = {7: 3600.0 + 280.0, 100: 3600.0 + 700.0}  # ... and one an hour later
    sent = 0
    for message in ([*people.items()][:30], [*people.items()][30:], [*again.items()]):
        uav.send("sightings", seen(dict(message), sent + 1))
        sent += len(message)
    wait("receipts", lambda: len(uav.received()) == sent)
    uav.send("status", b"offline")

    def returns() -> list[dict[str, Any]]:
        """Of who came back. One of a hundred others is taken for somebody, as is configured."""
        listed = server.get("/v1/identities?limit=500").json()["identities"]
        assert len([one for one in listed if one["returns"]]) <= 4
        return [one for one in listed if one["returns"] and one["tracklets"][0]["track"] == 61]

    (back,) = wait("somebody is told as back", returns)
    assert (back["returns"]["state"], back["person"]) == ("accepted", back["returns"]["person"])
    assert (back["returns"]["with"]["track"], back["returns"]["track"]["track"]) == (8, 61)
    events = [json.loads(body) for _, body, _ in uav.heard]
    (told,) = [e["data"] for e in events if e["subject"] == back["id"] and "return" in e["data"]]
    assert (told["type"], told["person"]) == ("returned", back["person"])
    assert 'skyreid_returns_total{state="accepted"}' in server.get("/metrics").text

    address = (server.directory / "address.txt").read_text().strip()
    undone = httpx.post(f"{address}/v1/identities/{back['id']}/return/undo", timeout=30).json()
    assert (undone["person"], undone["returns"]["state"]) == (back["id"], "undone")
    server.kill()
    server.start(ready=False)
    (still,) = wait("the next life answers", returns)
    assert (still["person"], still["returns"]["state"]) == (back["id"], "undone")
    assert server.stop() == 0
