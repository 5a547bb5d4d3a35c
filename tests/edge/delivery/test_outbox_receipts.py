"""What the outbox believes, and what it does about those that never get a receipt."""

from outbox_bench import Bench

from skyreid.contract.receipt import Status
from skyreid.contract.sighting import Lane


def test_a_receipt_is_believed_only_of_what_was_sent(bench: Bench) -> None:
    """One range from 0 to 2^64 - 1 emptied a spool of which 43 of 3,000 had ever been sent."""
    bench.say(1, 400)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    sent = bench.link.flat(Lane.LIVE)
    assert 0 < len(sent) < 400
    bench.receipt(0, 2**64 - 1)
    assert [row.seq for row in bench.spool.after(0, 1000)] == list(range(len(sent) + 1, 401))
    assert bench.outbox.dropped == {"receipt_unasked": 400 - len(sent)}
    bench.receipt(0, 2**64 - 1, boot="99-ffffffff")
    assert bench.spool.count() == 400 - len(sent)


def test_a_receipt_that_comes_after_a_reconnect_is_believed(bench: Bench) -> None:
    bench.say(1, 100)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    bench.outbox.down()
    bench.outbox.up(bench.link)
    bench.receipt(1, 100)
    assert bench.outbox.idle


def test_what_the_server_refused_for_good_is_deleted_and_counted_by_its_reason(
    bench: Bench,
) -> None:
    bench.say(1, 5)
    bench.outbox.up(bench.link)
    bench.outbox.pump()
    assert bench.receipt(2, 4, status=Status.REJECTED) == {"rejected_view": 3}
    assert bench.spool.count() == 2


def test_what_never_gets_a_receipt_holds_up_neither_live_sightings_nor_the_rest(
    bench: Bench,
) -> None:
    """2,000 old ones of another view let live ones through in bursts of ten seconds."""
    bench.say(1, 150)
    old = bench.spool.boot
    bench.spool.close()
    bench.open()
    bench.outbox.up(bench.link)
    seen = 0
    for second in range(1, 41):
        bench.say(second, second)
        for _ in range(2):
            bench.after(0.5)
            bench.taken()
            for batch in bench.link.batches[seen:]:
                for sighting in batch.sightings:  # the first 100 are never receipted
                    if batch.boot != old or sighting.seq > 100:
                        bench.receipt(sighting.seq, sighting.seq, boot=batch.boot)
            seen = len(bench.link.batches)
        assert bench.link.flat(Lane.LIVE)[-1] == second, "live waited"
    assert {(row.boot, row.seq) for row in bench.spool.after(0, 1000)} == {
        (old, seq) for seq in range(1, 101)
    }
    assert len(bench.link.flat(Lane.BACKFILL)) <= 150 + 3 * 100  # nor sent again without end


def test_a_broker_that_acknowledges_nothing_is_given_so_many_messages_and_then_left(
    bench: Bench,
) -> None:
    """The client's queue grew by a gigabyte a day."""
    bench.link.unacknowledged_max = 8
    bench.say(1, 1000)
    bench.outbox.up(bench.link)
    for _ in range(290):
        bench.after(0.1)
    assert bench.link.sent == 8
    assert bench.link.troubles == []
    bench.after(2.0)
    (why,) = bench.link.troubles
    assert (why.kind, why.why) == ("no_answer", "acknowledged nothing for 30 s")
    assert bench.link.sent == 8


def test_a_server_that_is_deaf_for_a_day_costs_little(bench: Bench) -> None:
    """A window of 1,024 was sent again each minute."""
    bench.say(1, 1000)
    bench.outbox.up(bench.link)
    for _ in range(24 * 60):
        bench.after(60.0)
        bench.taken()
    assert len(bench.link.flat(Lane.LIVE)) + len(bench.link.flat(Lane.BACKFILL)) < 1000 + 9 * 1440


def test_a_server_that_answers_late_is_not_taken_for_a_deaf_one(bench: Bench) -> None:
    """With 47 s for an answer, 8 sightings a minute left a spool of 17,000."""
    bench.say(1, 4000)
    old = bench.spool.boot
    bench.spool.close()
    bench.open()
    bench.outbox.up(bench.link)
    answers: list[tuple[float, int]] = []
    seen = 0
    for _ in range(1200):
        bench.after(1.0)
        bench.taken()
        for batch in bench.link.batches[seen:]:
            answers += [(bench.now_s + 47.0, s.seq) for s in batch.sightings]
        seen = len(bench.link.batches)
        due = [seq for at, seq in answers if at <= bench.now_s]
        answers = [(at, seq) for at, seq in answers if at > bench.now_s]
        if due:
            bench.receipt(min(due), max(due), boot=old)
    assert bench.spool.count() == 0
    assert len(bench.link.flat(Lane.BACKFILL)) < 3 * 4000
