from collections.abc import Callable

import numpy as np

from skyreid.train.data.trials import two_views
from skyreid.train.evaluate.breakdown import outcomes as all_outcomes
from skyreid.train.evaluate.breakdown import outcomes_of, places_of
from skyreid.train.evaluate.metrics import Embedded
from skyreid.train.evaluate.protocols import Report
from skyreid.train.evaluate.report import ranklists


def test_lists_agree_with_the_metrics_in_every_protocol(
    make_report: Callable[..., Report],
) -> None:
    report = make_report()
    for outcome in report.outcomes:
        measures = outcome.measures
        assert measures.query.size
        for query, first in zip(measures.query.tolist(), measures.first.tolist(), strict=True):
            found = ranklists.rank_list(report.ranked, outcome, query)
            assert found.first.rank == first
            right = [hit.rank for hit in found.hits if hit.right]
            assert right[:1] == ([first] if first <= ranklists.SHOWN else [])


def test_a_list_is_the_gallery_in_order_without_what_the_protocol_removes(
    make_report: Callable[..., Report],
) -> None:
    report = make_report(seed=4)
    outcome = next(o for o in report.outcomes if o.trial.name == "ALL")
    query, gallery = report.ranked.query, report.ranked.gallery
    found = ranklists.rank_list(report.ranked, outcome, 5)
    cosine = gallery.embeddings @ query.embeddings[5]
    kept = [
        g
        for g in np.argsort(-cosine, kind="stable").tolist()
        if not (gallery.people[g] == query.people[5] and gallery.cameras[g] == query.cameras[5])
    ]
    assert [hit.picture for hit in found.hits] == kept[:10]
    assert [hit.right for hit in found.hits] == [
        bool(gallery.people[g] == query.people[5]) for g in kept[:10]
    ]


def test_the_hardest_are_the_worst_query_of_each_person_and_no_success(
    make_report: Callable[..., Report],
) -> None:
    report = make_report(seed=1)
    outcome = report.outcomes[4]
    measures = outcome.measures
    worst: dict[int, int] = {}
    for person, first in zip(measures.people.tolist(), measures.first.tolist(), strict=True):
        worst[person] = max(worst.get(person, 0), first)
    wanted = sorted((first for first in worst.values() if first > 1), reverse=True)[:4]
    found = ranklists.hardest(report.ranked, outcome, count=4)
    assert [one.first.rank for one in found] == wanted
    people = [int(report.ranked.query.people[one.query]) for one in found]
    assert len(set(people)) == 4


def test_a_sample_is_drawn_from_valid_queries_and_the_same_whatever_the_model(
    make_report: Callable[..., Report],
) -> None:
    one, other = make_report(seed=1), make_report(seed=2)
    drawn = [
        [found.query for found in ranklists.sample(report.ranked, report.outcomes[5], count=5)]
        for report in (one, other)
    ]
    assert drawn[0] == drawn[1] == sorted(set(drawn[0]))
    assert set(drawn[0]) <= set(one.outcomes[5].measures.query.tolist())
    assert len(drawn[0]) == 5


def test_lists_are_shown_across_views_or_else_of_the_first_protocol(
    make_report: Callable[..., Report], ground_only: tuple[Embedded, Embedded]
) -> None:
    report = make_report()
    assert [o.trial.name for o in ranklists.shown(report.ranked, report.outcomes)] == [
        "A->G", "G->A",
    ]  # fmt: skip
    query, gallery = ground_only
    trials = two_views(query.aerial, gallery.aerial)
    ranked, found = all_outcomes(query, gallery, trials, places_of(query, gallery))
    assert [o.trial.name for o in ranklists.shown(ranked, found)] == ["ALL"]
    assert [o.whole.score.queries > 0 for o in outcomes_of(query, gallery)] == [
        True, False, True, False, False, False,
    ]  # fmt: skip
