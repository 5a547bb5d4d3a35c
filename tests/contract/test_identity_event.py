"""What the world is told: the bytes of an event stay as they are."""

import json
from pathlib import Path

from skyreid.contract.identity_event import Event, Evidence, Match, TrackKey, encode_event

AIR = TrackKey("uav-1", "3-ab12", "cam1", 7)
STREET = TrackKey("street-1", "1-0c0c", "cam6", 2)
MATCH = Match(
    "accepted",
    0.97,
    AIR,
    (
        Evidence("appearance", 2.1, 0.63),
        Evidence("place", 3.0, 0.4),
        Evidence("time", 0.0, 0.0),
        Evidence("prior", -3.0),
    ),
)
EVENT = Event("merged", AIR.identity_id(), 5_000_000_000, (STREET,), STREET.identity_id(), MATCH)


def test_an_event_has_its_golden_bytes(repository: Path) -> None:
    data = encode_event(
        EVENT, site="plaza", decision=17, number=1, decided_at_ns=1_700_000_000_123_000_000
    )
    assert data == (repository / "tests/golden/identity-event.v1.json").read_text()


def test_what_an_event_says_of_nothing_it_leaves_out() -> None:
    event = Event("assigned", "WXBJCVJN", 1)
    body = json.loads(encode_event(event, site="s", decision=1, number=0, decided_at_ns=1))
    assert body["data"] == {"type": "assigned", "identity": "WXBJCVJN", "at_ns": 1, "tracks": []}
    assert (body["id"], body["type"]) == ("1-0", "skyreid.v1.identity.assigned")


def test_what_is_known_of_a_match_survives_the_log() -> None:
    assert Match.from_json(json.loads(json.dumps(MATCH.to_json()))) == MATCH
