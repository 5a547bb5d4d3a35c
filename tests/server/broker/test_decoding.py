"""Sorting what arrived: the good is kept, the bad named, and one never harms the other."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract.device import Birth, BirthCamera, Health, encode_birth
from skyreid.contract.picture import Picture
from skyreid.contract.receipt import Range, Receipt, Status, batch_properties
from skyreid.contract.sighting import Lane, ModelRef
from skyreid.contract.sighting_wire import decode_usable, encode_raw_batch, encode_sighting
from skyreid.contract.site import Site, SiteCamera
from skyreid.server.broker import decoding
from skyreid.server.broker.decoding import Message, receipts, sort_messages

SITE = Site(id="plaza", pictures="always", camera=(SiteCamera(id="cam6", view="ground"),))
NOW_NS = 2_000_000_000_000_000_000
JPEG = b"\xff\xd8\xff\xe0" + b"picture" + b"\xff\xd9"


def message(channel: str, payload: bytes, device: str = "uav1", **user: str) -> Message:
    return Message(f"skyreid/v1/plaza/dev/{device}/{channel}", payload, user, NOW_NS)


def test_a_batch_becomes_its_sightings_with_their_bytes_as_they_came(make: Any) -> None:
    body = encode_sighting(make.sighting(2)) + b"\xa0\x3e\x07"  # field 996, of the future
    out = sort_messages([message("sightings", encode_raw_batch(make.batch([]), [body]))], SITE)
    (got,) = out.sightings
    assert got.body == body
    assert (got.device, got.boot, got.lane, got.sighting.seq) == ("uav1", "1-abcd", 1, 2)
    assert (got.received_at_ns, got.model_key, got.dim) == (NOW_NS, "0123456789abcdef", 16)


def test_a_sighting_that_does_not_parse_is_set_aside_and_stays_with_its_device(make: Any) -> None:
    bodies = [encode_sighting(make.sighting(4)), b"\x0a", encode_sighting(make.sighting(5))]
    out = sort_messages([message("sightings", encode_raw_batch(make.batch([]), bodies))], SITE)
    assert [a.sighting.seq for a in out.sightings] == [4, 5]
    (refused,) = out.refused
    assert (refused.reason, refused.seqs) == ("sighting", ())
    (told,) = receipts(out.sightings, out.refused)
    assert told == ("uav1", Receipt("1-abcd", (Range(4, 5, Status.STORED),)))


def test_a_heartbeat_carries_a_watermark_and_backfill_does_not(make: Any) -> None:
    beat = make.payload([], watermark_ns=500)
    unsaid = make.payload([make.sighting(1, at_s=3), make.sighting(2, at_s=2)])
    saved = make.payload([make.sighting(3)], lane=Lane.BACKFILL, watermark_ns=900)
    out = sort_messages([message("sightings", p) for p in (beat, unsaid, saved)], SITE)
    assert [(h.boot, h.watermark_ns) for h in out.heard] == [
        ("1-abcd", 500),
        ("1-abcd", make.start_ns + 3 * 10**9),
        (None, 0),
    ]
    assert [h.camera for h in out.heard] == [None, "cam1", "cam1"]


def test_a_view_that_is_not_the_sites_is_refused_but_not_to_be_forgotten(make: Any) -> None:
    wrong = make.payload([make.sighting(1, camera="cam6", view=1)])
    unlisted = make.payload([make.sighting(2, camera="cam9")])
    out = sort_messages([message("sightings", p) for p in (wrong, unlisted)], SITE)
    (refused,) = out.refused
    assert refused.reason == "view"
    assert "give both the same file" in refused.detail
    assert refused.seqs == ()
    assert [a.sighting.seq for a in out.sightings] == [2]


def test_a_bad_sighting_is_for_the_device_to_forget_and_the_others_are_kept(make: Any) -> None:
    bodies = [make.sighting(4), make.sighting(5, crops=0), make.sighting(2**63), make.sighting(6)]
    out = sort_messages([message("sightings", make.payload(bodies))], SITE)
    assert [a.sighting.seq for a in out.sightings] == [4, 6]
    (refused,) = out.refused
    assert refused.detail == "2 of 4 sightings, the first: sighting: no crops"
    stored = (Range(4, 4, Status.STORED), Range(6, 6, Status.STORED))
    bad = (Range(n, n, Status.REJECTED, "sighting") for n in (5, 2**63))
    assert receipts(out.sightings, out.refused) == [("uav1", Receipt("1-abcd", (*stored, *bad)))]
    assert len(out.heard) == 1


@pytest.mark.parametrize("ahead_s", [59, 61])
def test_what_was_captured_after_it_arrived_is_refused_but_not_to_be_forgotten(
    make: Any, ahead_s: int
) -> None:
    arrived_ns = make.start_ns + 3 * 10**9
    late = make.payload([make.sighting(1, at_s=3 + ahead_s)])
    beat = make.payload([], watermark_ns=arrived_ns + ahead_s * 10**9)
    topic = "skyreid/v1/plaza/dev/uav1/sightings"
    out = sort_messages([Message(topic, p, {}, arrived_ns) for p in (late, beat)], SITE)
    if ahead_s < 60:
        assert (len(out.sightings), len(out.heard), out.refused) == (1, 2, [])
        return
    assert (out.sightings, out.heard) == ([], [])
    assert [(r.reason, r.seqs) for r in out.refused] == [("clock", ()), ("clock", ())]
    assert "captured 61 s after it arrived" in out.refused[0].detail


@pytest.mark.parametrize(
    ("topic", "reason"),
    [
        ("skyreid/v1/plaza/dev/uav1/gossip", "topic"),
        ("skyreid/v2/plaza/dev/uav1/sightings", "topic"),
        ("skyreid/v1/harbour/dev/uav1/sightings", "topic"),
    ],
)
def test_a_foreign_topic_is_refused(topic: str, reason: str) -> None:
    (refused,) = sort_messages([Message(topic, b"", {}, 1)], SITE).refused
    assert (refused.reason, refused.device) == (reason, None)


def test_births_statuses_and_health_are_read() -> None:
    camera = BirthCamera(id="cam1", view="aerial")
    birth = Birth(boot="1-a", model=ModelRef("k", 4, "", "m"), cameras=(camera,))
    out = sort_messages(
        [
            message("birth", encode_birth(birth)),
            message("birth", b""),  # a retained birth, withdrawn
            message("status", b"online"),
            message("status", b"offline"),
            message("health", b'{"fps": 9}'),
        ],
        SITE,
    )
    assert out.births == [("uav1", birth), ("uav1", None)]
    assert out.statuses == [("uav1", True), ("uav1", False)]
    assert out.healths == [("uav1", Health(fps=9))]
    assert [h.heard_at_ns for h in out.heard] == [NOW_NS]
    assert out.refused == []


@pytest.mark.parametrize(
    ("channel", "payload", "reason"),
    [
        ("health", b"{", "json"),
        ("health", b"[1]", "json"),
        ("health", b"\xff\xfe", "json"),
        ("health", b"[" * 60_000, "json"),
        ("health", json.dumps({"x": "y" * 70_000}).encode(), "size"),
        ("health", b'{"fps": -1}', "health"),
        ("birth", b'{"boot": "1-a"}', "birth"),
        ("birth", b'{"schema_version": 2}', "schema"),
        ("status", b"busy", "status"),
        ("sightings", b"\0" * 300_000, "size"),
    ],
)
def test_a_bad_message_is_refused_with_its_reason(
    channel: str, payload: bytes, reason: str
) -> None:
    (refused,) = sort_messages([message(channel, payload)], SITE).refused
    assert refused.reason == reason


def test_a_picture_is_taken_by_its_properties() -> None:
    user = {"boot": "b", "camera": "cam6", "track": "3", "seq": "9", "captured_at_ns": "12"}
    out = sort_messages([message("picture", JPEG, **user)], SITE)
    (picture,) = out.pictures
    assert (picture.device, picture.received_at_ns) == ("uav1", NOW_NS)
    assert picture.picture == Picture("b", "cam6", 3, 9, 12, JPEG)


@pytest.mark.parametrize(
    ("change", "payload"),
    [
        ({"track": "-1"}, JPEG),
        ({"track": "x"}, JPEG),
        ({"seq": str(2**64)}, JPEG),
        ({"camera": "../etc"}, JPEG),
        ({}, JPEG[:-1]),
        ({}, b"GIF89a"),
        ({}, b"\xff\xd8\xff" + b"0" * 21_000 + b"\xff\xd9"),
    ],
)
def test_what_is_no_picture_is_refused(change: dict[str, str], payload: bytes) -> None:
    user = {"boot": "b", "camera": "cam6", "track": "3", "seq": "9", "captured_at_ns": "12"}
    (refused,) = sort_messages([message("picture", payload, **{**user, **change})], SITE).refused
    assert refused.reason == "picture"


def test_where_the_policy_is_never_a_picture_is_not_even_set_aside() -> None:
    site = Site(id="plaza")
    (refused,) = sort_messages([message("picture", JPEG)], site).refused
    assert refused.reason == "policy"
    assert not refused.keep_payload


def refusals(payload: bytes, **user: str) -> tuple[Any, Any]:
    (refused,) = sort_messages([message("sightings", payload, **user)], SITE).refused
    return refused.reason, refused.seqs


def test_a_batch_that_nobody_can_parse_is_refused_by_the_numbers_beside_it(make: Any) -> None:
    beside = batch_properties("1-abcd", [12, 13, 45])
    good = make.payload([make.sighting(12)])
    assert refusals(good[:-9], **beside) == ("parse", (12, 13, 45))
    assert refusals(b"\0" * 300_000, **beside) == ("size", (12, 13, 45))


@pytest.mark.parametrize("payload", [b"", b"\x08\x00", b"\x52\x00" * 4])
def test_a_batch_of_no_bytes_or_without_a_schema_is_not_sent_again_for_ever(payload: bytes) -> None:
    """It was taken for another release's, which is kept by its device until the server is newer."""
    assert refusals(payload, **batch_properties("1-abcd", [4, 5])) == ("parse", (4, 5))


def test_what_can_be_put_right_is_not_to_be_forgotten(make: Any) -> None:
    beside = batch_properties("1-abcd", [12])
    wrong = make.payload([make.sighting(12, camera="cam6", view=1)])
    assert refusals(wrong, **beside) == ("view", ())


def test_numbers_beside_a_batch_that_make_no_sense_are_no_numbers(make: Any) -> None:
    broken = make.payload([make.sighting(12)])[:-9]
    for user in ({"boot": "no name!", "seqs": "12"}, {"boot": "b"}, {"boot": "b", "seqs": "9-1"}):
        assert refusals(broken, **user) == ("parse", ())


def test_a_sighting_whose_bytes_say_nothing_is_the_one_that_is_missing(make: Any) -> None:
    bodies = [
        encode_sighting(make.sighting(4)),
        b"\x0a",
        encode_sighting(make.sighting(5, crops=0)),
    ]
    payload = encode_raw_batch(make.batch([]), bodies)
    beside = batch_properties("1-abcd", [4, 5, 6])
    out = sort_messages([message("sightings", payload, **beside)], SITE)
    assert [a.sighting.seq for a in out.sightings] == [4]
    assert sorted(out.refused[0].seqs) == [5, 6]
    other = batch_properties("2-abcd", [4, 5, 6])
    out = sort_messages([message("sightings", payload, **other)], SITE)
    assert out.refused[0].seqs == (5,)


def test_a_defect_of_ours_costs_the_message_that_met_it(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = decode_usable

    def defect(data: bytes, **where: Any) -> Any:
        if data == poison:
            raise ZeroDivisionError("of ours")
        return decode(data, **where)

    poison, good = (make.payload([make.sighting(n)]) for n in (1, 2))
    monkeypatch.setattr(decoding, "decode_usable", defect)
    beside = batch_properties("1-abcd", [1])
    sent = [message("sightings", poison, **beside), message("sightings", good)]
    out = sort_messages(sent, SITE)
    assert [a.sighting.seq for a in out.sightings] == [2]
    (refused,) = out.refused
    assert (refused.reason, refused.seqs) == ("defect", (1,))
    assert "ZeroDivisionError: of ours" in refused.detail


@settings(max_examples=200)
@given(
    st.sampled_from(["sightings", "birth", "status", "health", "picture"]),
    st.binary(max_size=300),
    st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=3),
)
def test_random_bytes_never_raise(channel: str, payload: bytes, user: dict[str, str]) -> None:
    sort_messages([Message(f"skyreid/v1/plaza/dev/d/{channel}", payload, user, 1)], SITE)
