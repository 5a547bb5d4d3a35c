"""Which identity a tracklet had, and when."""

from skyreid.contract.identity_event import Match, TrackKey
from skyreid.server.matching.identity import Decision
from skyreid.server.scoring.lineage import lineage_of


def test_a_decision_history_keeps_what_was_said_before_a_merge_and_a_move():
    above, below, other = (
        TrackKey("dev-cam1", "b1", "cam1", 1),
        TrackKey("dev-cam6", "b1", "cam6", 1),
        TrackKey("dev-cam6", "b1", "cam6", 2),
    )
    link = Match("accepted", 0.9, above, ())
    log = [
        Decision("assign", 10, "A", (above,)),
        Decision("assign", 20, "B", (below,)),
        Decision("assign", 25, "B", (other,), match=link),
        Decision("merge", 30, "A", other="B", match=link),
        Decision("split", 40, "C", (other,), other="A"),
    ]

    lineage = lineage_of(log)

    assert [lineage.final(k) for k in (above, below, other)] == ["A", "A", "C"]
    assert [lineage.at_emission(below, t) for t in (5, 20, 29, 30)] == ["B", "B", "B", "A"]
    assert [lineage.at_emission(other, t) for t in (25, 30, 40)] == ["B", "A", "C"]
    assert lineage.final(TrackKey("dev-cam1", "b1", "cam1", 9)) is None


def test_an_erased_identity_is_nobody_at_the_end():
    log = [
        Decision("assign", 10, "A", (TrackKey("dev-cam1", "b1", "cam1", 1),)),
        Decision("erase", 50, "A"),
    ]

    lineage = lineage_of(log)

    assert lineage.final(TrackKey("dev-cam1", "b1", "cam1", 1)) is None
    assert lineage.at_emission(TrackKey("dev-cam1", "b1", "cam1", 1), 30) == "A"
