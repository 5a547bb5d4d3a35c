"""Re-ranking against the published algorithm, written down densely and in loops."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skyreid.train.evaluate import embedding, rerank
from skyreid.train.evaluate.rerank import K1, K2, LAMBDA, re_ranked

Floats = NDArray[np.float64]


def dense(query: Floats, gallery: Floats) -> Floats:
    """Zhong et al.'s steps on a whole matrix of distances."""
    rows = np.concatenate([query, gallery])
    distance = np.maximum(2 - 2 * rows @ rows.T, 0)
    np.fill_diagonal(distance, -1)
    order = np.argsort(distance, axis=1, kind="stable")
    np.fill_diagonal(distance, 0)
    distance = distance / distance.max(1, keepdims=True)

    def reciprocal(index: int, count: int) -> set[int]:
        return {j for j in order[index, : count + 1] if index in order[j, : count + 1]}

    encoded = np.zeros_like(distance)
    for index in range(len(rows)):
        own = reciprocal(index, K1)
        expanded = set(own)
        for other in own:
            theirs = reciprocal(other, round(K1 / 2))
            if len(theirs & own) > 2 / 3 * len(theirs):
                expanded |= theirs
        some = sorted(expanded)
        weights = np.exp(-distance[index, some])
        encoded[index, some] = weights / weights.sum()
    encoded = np.stack([encoded[order[i, :K2]].mean(0) for i in range(len(rows))])
    asked = len(query)
    found = np.empty((asked, len(gallery)))
    for i in range(asked):
        for j in range(len(gallery)):
            common = np.minimum(encoded[i], encoded[asked + j]).sum()
            found[i, j] = (1 - LAMBDA) * (1 - common / (2 - common))
            found[i, j] += LAMBDA * distance[i, asked + j]
    return found


def some_rows(seed: int, count: int, people: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(people, 8))[np.arange(count) % people] + rng.normal(size=(count, 8))
    unit: NDArray[np.float32] = rows.astype(np.float32)
    return unit / np.linalg.norm(unit, axis=1, keepdims=True)


@pytest.mark.parametrize(("asked", "searched"), [(9, 70), (3, 5)])
def test_distances_are_those_of_the_published_steps(
    asked: int, searched: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rerank, "_BLOCK_BYTES", 4 * (asked + searched) * 7)  # several blocks
    rows = some_rows(0, asked + searched, people=11)
    found = re_ranked(rows[:asked], rows[asked:])
    wanted = dense(rows[:asked].astype(np.float64), rows[asked:].astype(np.float64))
    np.testing.assert_allclose(found, wanted, atol=2e-6)


def test_re_ranked_and_flipped_rows_are_called_so_and_leave_the_published_ones_alone(
    fitted_tiny: Path, tiny_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from skyreid.train.__main__ import main

    command = ["evaluate", str(fitted_tiny), "--data", str(tiny_tree), "--json"]
    assert main(command) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main([*command, "--re-rank"]) == 0
    both = json.loads(capsys.readouterr().out)
    assert {name: both[name] for name in plain} == plain
    assert set(both) == {*plain, *(f"{name} re-ranked" for name in plain)}
    assert both["ALL re-ranked"]["queries"] == plain["ALL"]["queries"]
    assert main([*command, "--flip"]) == 0
    flipped = json.loads(capsys.readouterr().out)
    assert list(flipped) == [f"{name} flip" for name in plain]
    assert flipped["ALL flip"]["queries"] == plain["ALL"]["queries"]
    assert main([*command, "--grey"]) == 0
    grey = json.loads(capsys.readouterr().out)
    assert list(grey) == [f"{name} in grey" for name in plain]
    assert grey["ALL in grey"]["queries"] == plain["ALL"]["queries"]
    assert grey["ALL in grey"]["mAP"] != plain["ALL"]["mAP"]


def test_in_grey_a_model_sees_the_luma_alone() -> None:
    colours = np.zeros((3, 2, 2, 3), np.uint8)
    for row in range(3):
        colours[row, ..., row] = 200
    seen = embedding.in_grey(lambda images, _: images.reshape(3, -1).astype(np.float32))
    found = seen(colours, "ground")
    assert found.tolist() == [[60.0] * 12, [117.0] * 12, [23.0] * 12]
