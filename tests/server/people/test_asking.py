"""Who came back, hours later: through a whole server but for processes and sockets."""

import json
from typing import Any

import numpy as np
import pytest
from hours import Site
from one_life import plain

from skyreid.server.people.looks import Average, alike, variance

HOUR_S = 3600.0


def known(site: Site, people: int = 60) -> None:
    """So many people come and leave."""
    site.crowd(range(people), 0.0)


def test_who_comes_back_after_an_hour_is_told_as_a_return_and_keeps_both_identities(
    site: Site,
) -> None:
    known(site)
    first = site.come(900, 2000)
    again = site.come(900, 2020 + HOUR_S, "cam6")
    new = site.come(901, 2200 + HOUR_S)
    site.decide()
    link = site.link(again)
    assert (link.state, link.reason) == ("accepted", "")
    assert site.person(again) == site.who(first) != site.who(again)
    assert link.gap_s == pytest.approx(HOUR_S, abs=60)
    assert 40 <= link.told_from <= 70
    assert link.views == ("ground", "aerial")
    assert link.similarity > 0.8
    assert 0.5 < link.probability <= 0.99
    assert site.link(new) is None
    (event,) = site.told(again, new)
    assert (event["identity"], event["other"]) == (site.who(again), site.who(first))
    assert (event["person"], event["return"]["state"]) == (site.who(first), "accepted")
    decided = [d for d in site.now.journal.decisions() if d.kind == "return"]
    assert [d.identity for d in decided if d.link and d.link.state == "accepted"] == [
        site.who(again)
    ]


def test_a_return_of_a_return_is_the_first_person(site: Site) -> None:
    known(site)
    first = site.come(900, 2000)
    second = site.come(900, 2000 + HOUR_S)
    third = site.come(900, 2000 + 2 * HOUR_S)
    site.decide()
    assert site.person(third) == site.person(second) == site.who(first)


def test_few_people_are_a_suggestion_with_its_reason(site: Site) -> None:
    known(site, 5)
    first = site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    link = site.link(again)
    assert link is None or (link.state, link.reason) == (
        "tentative",
        f"{link.told_from} people are too few to say how many look alike",
    )
    assert site.person(again) == site.who(again) != site.who(first)


def test_after_a_day_looks_are_a_suggestion(site: Site) -> None:
    people = site.now.writer.people
    people.options = people.options.model_copy(update={"looks_h": 0.5})
    known(site)
    first = site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    link = site.link(again)
    assert (link.state, link.reason) == (
        "tentative",
        "gone for over 0.5 h: looks alone are a suggestion",
    )
    assert site.person(again) == site.who(again) != site.who(first)


def test_look_alikes_raise_the_bar_for_themselves(site: Site) -> None:
    known(site)
    for k in range(4):  # in one picture at once, and more alike than anybody is to themselves
        site.come(900, 2000 + k, last_s=60.0)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    assert len({site.who(track) for track in range(61, 65)}) == 4
    link = site.link(again)
    assert link is None or (link.state, link.reason) == ("tentative", "others look as much alike")


def test_who_is_elsewhere_cannot_have_come_back(site: Site) -> None:
    known(site)
    site.come(900, 2000)
    one = site.come(900, 2000 + HOUR_S, "cam1", last_s=60)
    two = site.come(900, 2030 + HOUR_S, "cam1", last_s=60)
    site.decide()
    links = [site.link(track) for track in (one, two) if site.link(track) is not None]
    accepted = [link for link in links if link.state == "accepted"]
    assert len(accepted) <= 1  # one camera shows both: they are two


def test_an_operator_undoes_a_return_for_good_in_every_life_and_in_a_log_made_anew(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    known(site)
    first = site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    assert site.person(again) == site.who(first)
    assert site.undo(again).state == "undone"
    assert site.person(again) == site.who(again)
    assert [e["return"]["state"] for e in site.told(again)] == ["accepted", "undone"]
    assert site.undo(again).state == "undone"  # once more changes nothing
    assert len(site.told(again)) == 2
    site.come(900, 2100 + HOUR_S)  # the episode gets long, and is asked again
    site.come(900, 2150 + HOUR_S)
    site.decide()
    assert site.who(site.seq) == site.who(again)
    assert site.person(again) == site.who(again)

    for bring in (0, 1):  # from the log, and from a snapshot
        if bring:
            site.now.writer._bring_snapshot(1)
        site.begin()
        site.decide()
        assert site.person(again) == site.who(again)
        assert [k.state for k in site.now.writer.state.identities[site.who(again)].links] == [
            "undone"
        ]

    from skyreid.server.admin.rebuilding import rebuild_log

    settings = site.now.settings
    site.now.journal.close()
    assert "identities from" in rebuild_log(settings)
    site.begin()
    site.decide()
    assert site.person(again) == site.who(again) != site.who(first)
    assert [k.state for k in site.now.writer.state.identities[site.who(again)].links] == ["undone"]
    log = [d.link for d in site.now.journal.decisions() if d.link]
    assert [link.state for link in log if link.state != "tentative"] == ["undone"]


def test_a_log_made_anew_tells_the_same_returns(site: Site) -> None:
    from skyreid.server.admin.rebuilding import rebuild_log

    known(site)
    first = site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    site.now.journal.close()
    rebuild_log(site.now.settings)
    site.begin()
    assert site.person(again) == site.who(first)


def test_who_came_before_the_server_ended_is_asked_for_in_its_next_life(site: Site) -> None:
    known(site)
    first = site.come(900, 2000)
    site.decide()
    again = site.come(900, 2000 + HOUR_S)
    site.now.writer.people.options = site.now.writer.people.options.model_copy(
        update={"returns": False}
    )
    site.decide()
    assert site.link(again) is None
    site.begin()
    site.decide()
    assert site.person(again) == site.who(first)


def test_nobody_is_asked_for_where_returns_are_off(site: Site) -> None:
    site.now.writer.people.options = site.now.writer.people.options.model_copy(
        update={"returns": False}
    )
    known(site)
    site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    assert site.link(again) is None
    assert site.told() == []


def test_erasing_who_had_left_erases_the_link_and_nothing_of_who_came(
    site: Site, tmp_path: Any
) -> None:
    from skyreid.server.store import erasures

    known(site)
    first = site.come(900, 2000)
    again = site.come(900, 2000 + HOUR_S)
    site.decide()
    name, left = site.who(again), site.who(first)
    with site.now.journal.writing() as db:
        erasures.ask(db, left, "she asked", 1)
    site.now.writer.forgetting.erase_asked()
    state, was = site.now.writer.state, plain(site.now.writer.state)
    assert left not in state.identities
    assert (state.person(name), state.identities[name].links) == (name, ())
    bodies = [
        str(row)
        for table in ("decision", "event", "snapshot_identity")
        for row in site.now.journal.reading(
            lambda db, table=table: db.execute(f"SELECT body FROM {table}").fetchall()
        )
        if "erase" not in str(row)
    ]
    assert not [body for body in bodies if left in body or '"track":61,' in body]
    site.begin()
    assert site.now.writer.state == was
    assert json.loads(site.now.journal.path.with_name("journal.sqlite.erased").read_text())


def test_the_measured_rate_is_of_those_whom_one_camera_saw_together(site: Site) -> None:
    known(site)
    metrics = site.now.metrics
    people = site.now.writer.people
    site.come(100, 4000, "cam1")  # who comes together may be dressed alike for that
    site.come(101, 4005, "cam1")
    site.decide()
    assert len(people.measured) == 0
    for k in range(20):
        site.come(200 + 2 * k, 5000 + 100 * k, "cam1")
        site.come(201 + 2 * k, 5012 + 100 * k, "cam1")
    site.decide()
    assert len(people.measured) >= 20
    assert 0 <= people.measured.rate(0.01) <= 0.1
    text = metrics.text()[0].decode()
    assert 'skyreid_returns_false_positive_rate{kind="configured"} 0.01' in text
    assert f"skyreid_returns_measured {len(people.measured)}.0" in text


def test_somebody_is_as_alike_as_the_mean_of_their_tracklets(site: Site) -> None:
    known(site, 12)
    tracks = [site.come(900, 2000 + 60 * k, likeness=0.8) for k in range(3)]
    again = site.come(900, 2000 + HOUR_S, likeness=0.8)
    site.decide()
    keys = {key.track: key for key in site.now.writer.state.tracks}
    looks = site.now.writer.people.looks
    model = looks.model_of([keys[again]])
    assert model is not None
    one = looks.average([keys[again]], model)
    alone = [alike(one, looks.average([keys[track]], model)) for track in tracks]
    (seen,) = (e for e in looks.of([keys[again]], model) if e.view is e.query)
    places = [looks.place(keys[track], seen) for track in tracks]
    there = [place for place in places if place is not None]
    assert alone == pytest.approx([float(seen.similarity[at.segment][at.row]) for at in there])
    together = looks.average([keys[track] for track in tracks], model)
    assert together.variance == pytest.approx(5 / 9)  # what is each one's own is less in the mean
    assert sum(alone) / 3 < alike(one, together) < 1


def test_who_was_seen_often_is_told_from_others_by_less() -> None:
    """A distance says the more the more tracklets it is of, and the more views."""
    far = np.array([1.0, 0.0], np.float32), np.array([0.6, 0.8], np.float32)
    found = [
        alike(Average(far[0], variance(many)), Average(far[1], variance(many)))
        for many in ([1], [2], [1, 1], [4, 4])
    ]
    assert found[0] == pytest.approx(0.6)  # the cosine
    assert found == sorted(found, reverse=True)
    assert alike(Average(far[0], 0.1), Average(far[0], 0.1)) == 1.0
