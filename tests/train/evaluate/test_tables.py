import numpy as np
import pytest

from skyreid.train.data.trials import two_views
from skyreid.train.evaluate import metrics, tables
from skyreid.train.evaluate.breakdown import Outcome, outcomes, places_of
from skyreid.train.evaluate.metrics import Embedded


@pytest.fixture(scope="module")
def found() -> tuple[Outcome, ...]:
    return ranked()


def ranked() -> tuple[Outcome, ...]:
    rng = np.random.default_rng(3)

    def a_set(count: int) -> Embedded:
        rows = rng.normal(size=(count, 4)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        cameras = rng.choice([1, 2, 6, 7], count)
        return Embedded(rows, rng.integers(0, 5, count), cameras, cameras <= 2)

    query, gallery = a_set(30), a_set(90)
    asked_by_air = query.where(query.aerial | (query.people != 4))  # 4 is never asked from below
    trials = two_views(asked_by_air.aerial, gallery.aerial)
    cues = {"air only: hair": np.array([4]), "first of a family": np.array([0, 1])}
    return outcomes(asked_by_air, gallery, trials, places_of(asked_by_air, gallery), cues)[1]


def test_every_number_of_the_table_is_one_of_the_json(found: tuple[Outcome, ...]) -> None:
    lines = tables.table(found).splitlines()
    rows = tables.as_json(found)
    assert lines[0].split() == ("percent R1 95 % R5 R10 mAP 95 % mINP people n".split())
    for line, (name, row) in zip(lines[1:7], rows.items(), strict=True):
        assert line.split()[0] == name
        wanted = [
            f"{row['rank1']:.1f}", *(f"{end:.1f}" for end in row["rank1_interval"]),
            f"{row['rank5']:.1f}", f"{row['rank10']:.1f}", f"{row['mAP']:.1f}",
            *(f"{end:.1f}" for end in row["mAP_interval"]), f"{row['mINP']:.1f}",
            str(row["people"]), str(row["queries"]),
        ]  # fmt: skip
        assert [word for word in line.split()[1:] if word != "-"] == wanted


def test_a_metric_that_is_entered_once_is_in_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(metrics.MEANS, "last", lambda ranks: 1 / float(ranks[-1]))
    outcomes = ranked()
    lines = tables.table(outcomes).splitlines()
    assert lines[0].split()[-4:] == ["mINP", "last", "people", "n"]
    for line, row in zip(lines[1:7], tables.as_json(outcomes).values(), strict=True):
        assert line.split()[-3] == f"{row['last']:.1f}"
        assert 0 < row["last"] < row["mAP"]
        camera_less = row.get("without_query_camera", row)
        assert camera_less["last"] >= row["last"]  # fewer strangers before the last right one


def test_parts_stand_side_by_side_and_a_protocol_without_one_leaves_a_gap(
    found: tuple[Outcome, ...],
) -> None:
    lines = tables.table(found).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("by cue"))
    assert lines[start - 1].split() == ["A->G", "G->A"]
    rows = tables.as_json(found)
    hair = lines[start + 1]
    assert hair.startswith("air only: hair")
    row = rows["A->G"]["by_cue"]["air only: hair"]
    assert hair.removeprefix("air only: hair").split() == [
        f"{row['rank1']:.1f}", f"{row['mAP']:.1f}", str(row["queries"]),
    ]  # fmt: skip
    other = rows["G->A"]["by_cue"]["first of a family"]
    assert lines[start + 2].split()[-1] == str(other["queries"])
    start = next(i for i, line in enumerate(lines) if line.startswith("query camera left out"))
    assert [line.split()[0] for line in lines[start + 1 : start + 4]] == ["ALL", "A-A", "G-G"]
    without = rows["G-G"]["without_query_camera"]
    assert lines[start + 3].split()[1] == f"{without['rank1']:.1f}"
