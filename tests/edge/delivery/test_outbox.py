from dataclasses import replace

from outbox_bench import Bench

from skyreid.contract.picture import Picture, decode_picture
from skyreid.contract.sighting import Lane, ModelRef
from skyreid.edge.delivery.options import OutboxOptions

JPEG = b"\xff\xd8\xff\xe0picture\xff\xd9"


def test_nothing_is_sent_without_a_connection(bench: Bench) -> None:
    bench.say(1, 3)
    bench.outbox.pump()
    assert bench.link.batches == []


def test_sightings_go_out_in_order_in_batches_of_at_most_32(bench: Bench) -> None:
    bench.say(1, 70)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert [len(group) for group in bench.link.seqs(Lane.LIVE)] == [32, 32, 6]
    assert bench.link.flat(Lane.LIVE) == list(range(1, 71))
    assert {b.boot for b in bench.link.batches} == {bench.spool.boot}
    bench.outbox.pump()
    assert sum(map(len, bench.link.seqs(Lane.LIVE))) == 70  # none twice


def test_the_watermark_never_runs_ahead_of_a_sighting_that_waits(bench: Bench) -> None:
    bench.say(1, 40)
    bench.outbox.watermark_ns = 2**60
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    first, last = bench.link.batches[:2]
    assert first.watermark_ns == bench.row(32).watermark_ns
    assert first.watermark_ns <= min(s.captured_at_ns for s in last.sightings)
    assert last.watermark_ns == 2**60


def test_an_empty_batch_carries_the_watermark_once_a_second(bench: Bench) -> None:
    bench.outbox.up(bench.link)
    for step in range(21):
        bench.outbox.watermark_ns = 100 + step
        bench.after(0.1)
    beats = [b.watermark_ns for b in bench.link.batches]
    assert beats[0] == 100
    assert len(beats) == 3
    assert not any(b.sightings for b in bench.link.batches)


def test_without_a_receipt_everything_is_sent_again_in_order_ever_more_rarely(
    bench: Bench,
) -> None:
    bench.options = OutboxOptions(backfill_after_s=1e6)
    bench.spool.close()
    bench.open()
    bench.say(1, 3)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    bench.taken()
    bench.receipt(2, 2)
    bench.after(9.9)
    assert bench.link.seqs(Lane.LIVE) == [[1, 2, 3]]
    bench.after(0.2)
    assert bench.link.seqs(Lane.LIVE) == [[1, 2, 3]]  # what is late is not live any more
    assert bench.link.seqs(Lane.BACKFILL) == [[1, 3]]
    bench.taken()
    bench.after(10.1)  # the pause has doubled
    bench.taken()
    assert len(bench.link.seqs(Lane.BACKFILL)) == 1
    bench.after(10.0)
    assert bench.link.seqs(Lane.BACKFILL) == [[1, 3], [1, 3]]
    bench.receipt(1, 3)
    bench.taken()
    bench.after(100)
    assert len(bench.link.seqs(Lane.BACKFILL)) == 2


def test_a_new_connection_sends_again_whatever_has_no_receipt(bench: Bench) -> None:
    bench.outbox.up(bench.link)
    bench.say(1, 4)
    bench.outbox.pump()
    bench.receipt(1, 2)
    bench.outbox.down()
    bench.say(5, 5)
    bench.outbox.pump()
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert bench.link.seqs(Lane.LIVE) == [[1, 2, 3, 4], [3, 4, 5]]


def test_what_waited_long_goes_to_the_backfill_lane_after_the_live_one(bench: Bench) -> None:
    bench.say(1, 3)
    bench.now_s += 31
    bench.say(4, 5)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert [(b.lane, [s.seq for s in b.sightings]) for b in bench.link.batches] == [
        (Lane.LIVE, [4, 5]),
        (Lane.BACKFILL, [1, 2, 3]),
    ]


def test_sightings_of_an_earlier_boot_are_backfill_however_young(bench: Bench) -> None:
    bench.say(1, 2)
    old = bench.spool.boot
    bench.spool.close()
    bench.open()
    bench.say(1, 1)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert [(b.lane, b.boot, len(b.sightings)) for b in bench.link.batches] == [
        (Lane.LIVE, bench.spool.boot, 1),
        (Lane.BACKFILL, old, 2),
    ]


def test_a_batch_has_one_model(bench: Bench) -> None:
    other = ModelRef("f" * 16, bench.model.dim, "b" * 64, "other")
    bench.say(1, 2)
    bench.spool.append([bench.row(3)], other)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert [(b.model.key, len(b.sightings)) for b in bench.link.batches] == [
        (bench.model.key, 2),
        (other.key, 1),
    ]


def test_backfill_is_limited_to_its_rate_and_live_is_not(bench: Bench) -> None:
    bench.options = OutboxOptions(backfill_per_s=100, backfill_after_s=30)
    bench.window = 10_000
    bench.spool.close()
    bench.open()
    bench.say(1, 300)
    bench.now_s += 31
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    start = sum(map(len, bench.link.seqs(Lane.BACKFILL)))
    assert start <= 64
    bench.say(301, 500)
    bench.after(1.0)
    assert sum(map(len, bench.link.seqs(Lane.LIVE))) == 200
    assert sum(map(len, bench.link.seqs(Lane.BACKFILL))) - start <= 101
    for _ in range(40):
        bench.after(0.1)
        done = bench.link.flat(Lane.BACKFILL)
    assert done == list(range(1, 301))


def test_at_most_a_window_of_sightings_is_on_its_way(bench: Bench) -> None:
    bench.window = 40
    bench.spool.close()
    bench.open()
    bench.say(1, 100)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert bench.link.flat(Lane.LIVE) == list(range(1, 41))
    bench.receipt(1, 10)
    bench.outbox.pump()
    assert bench.link.flat(Lane.LIVE) == list(range(1, 51))


def test_a_picture_goes_after_live_traffic_one_at_a_time(bench: Bench) -> None:
    pictures = [Picture(bench.spool.boot, "cam1", n, n, 7, b"jpeg%d" % n) for n in (1, 2)]
    bench.spool.append([bench.row(1)], bench.model, [(p, True) for p in pictures])
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    bench.outbox.pump()
    assert bench.link.batches[0].sightings
    (sent,) = bench.link.pictures
    assert sent[0] == b"jpeg1"
    assert decode_picture(JPEG, sent[1]) == replace(pictures[0], jpeg=JPEG)
    bench.outbox.acknowledged(bench.link.sent)
    bench.outbox.pump()
    assert [data for data, _ in bench.link.pictures] == [b"jpeg1", b"jpeg2"]


def test_a_picture_that_was_lost_with_the_connection_is_sent_again(bench: Bench) -> None:
    picture = Picture(bench.spool.boot, "cam1", 1, 1, 7, b"jpeg")
    bench.spool.append((), bench.model, [(picture, True)])
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    bench.outbox.down()
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert len(bench.link.pictures) == 2


def test_it_is_idle_when_everything_has_its_receipt_and_every_picture_is_taken(
    bench: Bench,
) -> None:
    assert bench.outbox.idle
    picture = Picture(bench.spool.boot, "cam1", 1, 1, 7, b"jpeg")
    bench.spool.append([bench.row(1)], bench.model, [(picture, True)])
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    bench.receipt(1, 2**63)
    assert not bench.outbox.idle
    bench.outbox.acknowledged(bench.link.sent)
    assert bench.outbox.idle
