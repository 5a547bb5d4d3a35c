"""Symptoms that brokers cause: limits, a flapping link, a name used twice, no answer, no sense."""

import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from driven_device import Device
from fake_broker import FakeBroker, Peer, Published, Rules, text, varint, wait_for

from skyreid.contract.receipt import Receipt, Status, encode_receipt, ranges_of
from skyreid.contract.sighting import ModelRef
from skyreid.contract.sighting_wire import decode_batch
from skyreid.edge.delivery import connection
from skyreid.edge.delivery import publisher as keeping
from skyreid.edge.delivery.publisher import ask_broker
from skyreid.edge.delivery.rows import Row
from skyreid.edge.delivery.spool import Spool

PAD = 1000
RECEIPTS = "skyreid/v1/square/cmd/dev1/receipt"
PICTURES = "skyreid/v1/square/cmd/dev1/picture"


Make = Callable[..., Device]


@pytest.fixture
def make(
    tmp_path: Path,
    model: ModelRef,
    row: Callable[[int], Row],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Make]:
    """Makes a device with ``count`` sightings at a broker with ``rules``."""
    monkeypatch.setattr(keeping, "SOON_S", (0.02, 0.05))
    monkeypatch.setattr(keeping, "RARELY_S", (0.04, 0.1))
    made: list[Device] = []

    def start(rules: Rules, count: int = 0, *, pictures: str = "never", large: int = 0) -> Device:
        spool = Spool(tmp_path / "s.db")
        rows = [padded(row(n), PAD) for n in range(1, count + 1)]
        if large:
            big = padded(row(count + 1), large)
            rows = [*rows[: count // 2], big, *rows[count // 2 :]]
        if rows:
            spool.append(rows, model)
        broker = FakeBroker(rules)
        url = f"mqtt://127.0.0.1:{broker.port}"
        made.append(Device(spool, model, pictures=pictures, broker=broker, url=url))
        return made[-1]

    yield start
    for device in made:
        device.publisher.stop()
        device.broker.close()
        device.spool.close()


def padded(row: Row, count: int) -> Row:
    """As large as the sighting of a real model; a reader passes over the field."""
    return replace(row, data=row.data + b"\xfa\x7f" + varint(count) + b"x" * count)


def holds_sightings(message: Published) -> bool:
    return message.channel == "sightings" and len(message.payload) > PAD


def stores(peer: Peer, message: Published) -> None:
    """What a server does with a batch."""
    if holds_sightings(message):
        batch = decode_batch(message.payload, site="square", device="dev1")
        spans = ranges_of([s.seq for s in batch.sightings], Status.STORED)
        peer.tell(RECEIPTS, encode_receipt(Receipt(batch.boot, spans)))


def on_the_wire(device: Device) -> int:
    return sum(message.size for message in device.broker.of("sightings"))


def spooled_bytes(device: Device) -> int:
    return device.spool.stats().bytes


def test_a_link_that_is_cut_again_and_again_costs_less_than_twice_the_spool(make: Make) -> None:
    """287 MB for 3.3 MB, when client and outbox both sent again."""

    def cut(peer: Peer, message: Published) -> None:
        if holds_sightings(message):
            time.sleep(0.05)
            peer.end()

    device = make(Rules(on_publish=cut), 3000)
    held = spooled_bytes(device)
    device.until(lambda: device.ups >= 30)
    assert on_the_wire(device) <= 2 * held
    assert device.spool.count() == 3000
    assert not any(message.again for message in device.broker.published)


def test_a_link_that_is_cut_while_it_delivers_costs_at_most_twice_the_spool(make: Make) -> None:
    luck = random.Random(3)

    def sometimes(peer: Peer, message: Published) -> None:
        if holds_sightings(message):
            if luck.random() < 0.2:
                peer.end()
            else:
                stores(peer, message)

    device = make(Rules(on_publish=sometimes), 2000)
    held = spooled_bytes(device)
    device.until(lambda: device.spool.count() == 0)
    assert device.ups > 3
    assert on_the_wire(device) <= 2 * held


def test_a_broker_with_a_small_packet_limit_gets_small_batches(make: Make) -> None:
    limit = b"\x27" + (4000).to_bytes(4, "big")
    device = make(Rules(properties=limit, on_publish=stores), 200)
    device.until(lambda: device.spool.count() == 0)
    sizes = [message.size for message in device.broker.published]
    assert max(sizes) <= 4000
    assert max(sizes) > 3000  # and not smaller than they need to be
    assert device.broker.connects == 1


def test_one_sighting_that_is_too_large_is_counted_and_said_and_the_others_go(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    limit = b"\x27" + (4000).to_bytes(4, "big")
    device = make(Rules(properties=limit, on_publish=stores), 60, large=5000)
    device.until(lambda: device.spool.count() == 1)
    assert device.outbox.dropped == {"too_large": 1}
    assert device.publisher.state == "packet_limit"
    said = [r.getMessage() for r in caplog.records if "max_packet_size" in r.getMessage()]
    assert len(said) == 1


def test_no_more_messages_are_on_their_way_than_the_broker_takes_at_once(make: Make) -> None:
    at_once = b"\x21" + (2).to_bytes(2, "big")
    held: list[tuple[Peer, int]] = []

    def slow(peer: Peer, message: Published) -> None:
        stores(peer, message)
        held.append((peer, message.mid))
        if len(held) >= 2 or message.channel != "sightings":
            for who, mid in held:
                who.acknowledge(mid)
            held.clear()

    rules = Rules(properties=at_once, acknowledge=lambda message: None, on_publish=slow)
    device = make(rules, 200)
    device.until(lambda: device.spool.count() == 0)
    assert device.broker.most_outstanding == 2


def test_a_broker_without_retained_messages_gets_none(make: Make) -> None:
    device = make(Rules(properties=b"\x25\x00", on_publish=stores), 5)
    device.until(lambda: device.spool.count() == 0)
    assert device.broker.of("birth")
    assert not any(message.retain for message in device.broker.published)


def test_a_broker_that_refuses_a_retained_will_gets_another_one(make: Make) -> None:
    device = make(Rules(refuse=[0x9A], on_publish=stores), 5)
    device.until(lambda: device.spool.count() == 0)
    assert device.broker.wills_retained == [True, False]
    assert not any(message.retain for message in device.broker.published)
    assert not device.publisher.troubles


def test_a_second_device_of_the_same_name_is_said_in_one_line_and_counted(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def give_away(peer: Peer, message: Published) -> None:
        if message.channel == "birth":
            peer.end(0x8E)

    device = make(Rules(on_publish=give_away))
    device.until(lambda: device.publisher.troubles["same_name"] >= 3)
    said = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == 1
    assert re.search("another client that is called skyreid-edge-dev1 too: .*device.id", said[0])
    assert device.publisher.state == "same_name"


@pytest.mark.parametrize(
    ("code", "kind", "needs_somebody"),
    [(0x87, "not_authorised", True), (0x86, "not_authorised", True), (0x88, "busy", False),
     (0x84, "refused", True)],
)  # fmt: skip
def test_a_refusal_is_of_a_kind_and_says_its_reason_once(
    make: Make, caplog: pytest.LogCaptureFixture, code: int, kind: str, needs_somebody: bool
) -> None:
    device = make(Rules(refuse=[code] * 3, on_publish=stores), 3)
    device.until(lambda: device.spool.count() == 0)
    assert device.publisher.troubles == {kind: 3}
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert ("until somebody mends that" in said) is needs_somebody
    assert device.publisher.state == "connected"


def test_a_broker_that_never_acknowledges_is_left_and_holds_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skyreid.edge.delivery.connection.ANSWER_S", 0.2)
    device = make(Rules(acknowledge=lambda message: None), 500)
    device.until(lambda: device.publisher.troubles["no_answer"] >= 3)
    assert device.spool.count() == 500
    assert not device.broker.of("sightings")  # it has not even taken the birth


@pytest.mark.parametrize("rules", [Rules(mute=True), Rules(greet=b"HTTP/1.1 400 Bad Request\r\n")])
def test_whatever_is_no_broker_is_tried_again_and_a_stop_does_not_wait_for_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, rules: Rules
) -> None:
    monkeypatch.setattr("skyreid.edge.delivery.connection.ANSWER_S", 0.2)
    device = make(rules)
    device.until(lambda: sum(device.publisher.troubles.values()) >= 2)
    assert set(device.publisher.troubles) <= {"no_answer", "refused"}
    device.publisher.stop()
    connects = device.broker.connects
    time.sleep(0.2)
    assert device.broker.connects == connects


def test_what_was_asked_long_ago_is_not_asked_for_and_pictures_only_where_they_may_be(
    make: Make,
) -> None:
    """A retained command that the client library cannot read ended every connection."""
    device = make(Rules(on_publish=stores), 1)
    device.until(lambda: device.spool.count() == 0)
    assert set(device.broker.subscriptions) == {RECEIPTS}
    assert device.broker.subscriptions[RECEIPTS] >> 4 == 2  # no retained messages
    device.spool.close()
    other = make(Rules(), pictures="on_request")
    other.until(lambda: other.ups == 1)
    assert {name: bits >> 4 for name, bits in other.broker.subscriptions.items()} == {
        RECEIPTS: 2,
        PICTURES: 2,
    }


def test_a_packet_that_the_client_library_cannot_read_costs_one_connection(make: Make) -> None:
    poisoned: list[int] = []

    def poison(peer: Peer, message: Published) -> None:
        if message.channel == "birth" and not poisoned:
            poisoned.append(peer.number)
            peer.tell(PICTURES, b"{}", b"\x26" + text("\ufeff") + text("x"))
        stores(peer, message)

    device = make(Rules(on_publish=poison), 100, pictures="always")
    device.until(lambda: device.spool.count() == 0)
    assert device.broker.connects <= 2


def test_nothing_is_sent_before_somebody_listens(make: Make) -> None:
    """After the broker was killed its oldest were lost, while what followed arrived."""
    deaf = [True]
    rules = Rules(acknowledge=lambda _: 0x10 if deaf[0] else 0, on_publish=stores)
    device = make(rules, 100)
    device.until(lambda: len(device.broker.of("status")) >= 3)
    assert not device.broker.of("sightings")
    assert device.publisher.troubles == {"nobody": 1}
    assert device.publisher.state == "away"
    deaf[0] = False
    device.until(lambda: device.spool.count() == 0)
    assert device.broker.connects == 1


def test_what_a_broker_says_that_nobody_got_is_sent_again_before_what_follows(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a server that was away for over a minute, live ones were stored before earlier ones."""
    monkeypatch.setattr(connection, "LISTENER_S", 0.1)
    deaf, heard = [True], list[int]()
    lost: list[Published] = []

    def answer(message: Published) -> int:
        if deaf[0]:
            lost.append(message)
        return 0x10 if message in lost else 0

    def listens(peer: Peer, message: Published) -> None:
        if message not in lost and holds_sightings(message):
            batch = decode_batch(message.payload, site="square", device="dev1")
            heard.extend(s.seq for s in batch.sightings)
            stores(peer, message)

    device = make(Rules(acknowledge=answer, on_publish=listens), 1000)
    device.until(lambda: any(map(holds_sightings, device.broker.of("sightings"))))
    device.until(lambda: device.publisher.state == "away")
    deaf[0] = False
    device.until(lambda: device.spool.count() == 0)
    assert heard == list(range(1, 1001))
    assert device.broker.connects == 1
    assert device.publisher.troubles["nobody"] >= 2


def test_a_server_that_comes_between_two_messages_gets_them_in_order(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What followed the first one, which nobody heard, was on its way already and overtook it."""
    monkeypatch.setattr(connection, "LISTENER_S", 0.1)
    heard, lost = list[int](), list[Published]()

    def answer(message: Published) -> int:
        if not any(map(holds_sightings, lost)):
            lost.append(message)
        return 0x10 if message in lost else 0

    def listens(peer: Peer, message: Published) -> None:
        if holds_sightings(message) and message not in lost:
            batch = decode_batch(message.payload, site="square", device="dev1")
            heard.extend(s.seq for s in batch.sightings)
            stores(peer, message)

    device = make(Rules(acknowledge=answer, on_publish=listens), 1000)
    device.until(lambda: device.spool.count() == 0)
    assert heard == list(range(1, 1001))
    assert device.broker.connects == 1


def test_a_broker_that_is_wrong_about_who_listens_is_believed_no_more_once_receipts_come(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LISTENER_S", 0.1)
    device = make(Rules(acknowledge=lambda _: 0x10, on_publish=stores), 1000)
    device.until(lambda: device.spool.count() == 0)
    assert device.publisher.state == "connected"
    assert device.broker.connects == 1


def test_the_doctor_asks_the_broker_as_a_device_would() -> None:
    broker = FakeBroker(Rules(properties=b"\x27" + (5000).to_bytes(4, "big")))

    def ask() -> tuple[bool, str]:
        return ask_broker(
            ("127.0.0.1", broker.port), site="square", device="dev1", tls=None, login=None
        )

    assert ask() == (
        True,
        "accepts dev1: messages of 5000 bytes, 65535 at once, keeps retained ones",
    )
    assert not broker.published  # it introduces nobody
    broker.rules = Rules(refuse=[0x87])
    good, said = ask()
    assert not good
    assert "refused: Not authorized" in said
    broker.close()
    wait_for(lambda: not ask()[0])
    assert "cannot be reached" in ask()[1]
