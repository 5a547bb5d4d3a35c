"""Gates of int8: what they refuse, what they let pass, and what they say that nobody has shown."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from skyreid.contract.errors import GateError
from skyreid.contract.input_spec import InputSpec
from skyreid.export import closeness, crops, experts, int8, loss, ranges
from skyreid.export.__main__ import main
from skyreid.export.int8_trial import Judge
from skyreid.export.quantize import quantised
from skyreid.train.data.records import Record
from skyreid.train.evaluate.metrics import MEANS, Measures

SPEC = InputSpec(height=16, width=8)
INPUTS = 16 * 8 * 3


# Pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("percentile", ["101", "-1", "nan", "0"])
def test_a_percentile_that_is_none_is_one_line(
    percentile: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--method", "percentile", "--percentile", percentile, "--pictures", str(tmp_path)]
    for verb in (["quantize"], ["bundle", "--view", "any"]):
        assert main([*verb, str(tmp_path / "x"), "-o", str(tmp_path / "out"), *asked]) == 2
        assert f"--percentile {float(percentile)}" in capsys.readouterr().err


# Closeness ------------------------------------------------------------------------------------


def unit(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_a_model_that_spreads_people_out_passes_where_one_with_a_shared_offset_fails() -> None:
    random = np.random.default_rng(1)
    people = np.repeat(np.arange(16), 4)
    rows = random.normal(size=(16, 64))[people] + 0.5 * random.normal(size=(64, 64))
    noise = random.normal(size=rows.shape)
    better = closeness.distance(unit(rows + 0.12 * noise), unit(rows), people)
    # The trained model of the cases: refused for a cosine, though no rank is lost.
    assert better["pair_error"] > 0.03
    assert better["noise"] < 0.08
    assert closeness.failures(better, "int8", "x") == []
    offset = 400 * np.ones(64)
    worse = closeness.distance(unit(rows + offset + 3 * noise), unit(rows + offset), people)
    # The collapsed one: every cosine near 1, and the ranks gone.
    assert worse["min_cosine"] > 0.9997
    assert worse["pair_error"] < 0.001
    assert worse["rank1_agreement"] < 0.75
    said = closeness.failures(worse, "int8", "x")
    assert any("of the gap between people and strangers, limit 0.08" in line for line in said)


def test_where_there_is_no_gap_the_spread_is_what_is_held() -> None:
    random = np.random.default_rng(2)
    people = np.repeat(np.arange(16), 4)
    rows = random.normal(size=(64, 64))  # nobody looks like himself
    close = closeness.distance(
        unit(rows + 0.01 * random.normal(size=rows.shape)), unit(rows), people
    )
    assert not closeness.has_gap(close)
    assert closeness.failures(close, "int8", "x") == []
    far = closeness.distance(unit(rows + 0.3 * random.normal(size=rows.shape)), unit(rows), people)
    assert "of the double spread of similarities" in closeness.failures(far, "int8", "x")[0]


# Losses ---------------------------------------------------------------------------------------


def asked(first: np.ndarray, precision: np.ndarray, per_person: int = 4) -> Measures:
    queries = np.arange(len(first))
    values = np.tile(precision.astype(np.float64), (len(MEANS), 1))
    return Measures(queries, queries // per_person, first.astype(np.int64), values)


def test_a_loss_of_eleven_points_among_156_queries_is_shown_to_be_large() -> None:
    random = np.random.default_rng(3)
    before = np.where(random.random(156) < 0.3, 1, 3)
    after = np.where(random.random(156) < 0.4, 3, before)
    rank1, mean = loss.losses(asked(before, 1 / before), asked(after, 1 / after))
    assert (rank1.queries, rank1.people) == (156, 39)
    assert rank1.interval[0] > loss.LARGEST
    assert (rank1.verdict, mean.verdict) == ("failed", "failed")
    assert "limit 0.5: failed" in rank1.line("int8: ALL")


def test_forty_queries_that_all_stay_show_little_and_it_is_said_what_would() -> None:
    same = np.ones(40)
    for one in loss.losses(asked(same, same), asked(same, same)):
        assert (one.points, one.interval) == (0, (0, 7.5))
        assert (one.verdict, one.queries_needed) == ("not shown", 600)
        assert "not shown with 40 queries of 10 people; about 600" in one.line("int8: A-A")
    many = np.ones(600)
    assert {one.verdict for one in loss.losses(asked(many, many), asked(many, many))} == {"passed"}
    # So many queries of nine people are nine people still.
    few = loss.losses(asked(many, many, 67), asked(many, many, 67))
    assert {(one.people, one.verdict) for one in few} == {(9, "not shown")}


def test_a_loss_between_small_and_large_is_neither() -> None:
    random = np.random.default_rng(4)
    before = np.where(random.random(300) < 0.6, 1, 2)
    after = np.where(random.random(300) < 0.04, 3 - before, before)
    rank1, _ = loss.losses(asked(before, 1 / before), asked(after, 1 / after))
    assert rank1.interval[0] < loss.LARGEST < rank1.interval[1]
    assert rank1.verdict == "not shown"
    assert rank1.queries_needed > 300
    assert loss.overall(["passed", "not shown"]) == "not shown"
    assert loss.overall(["not shown", "failed"]) == "failed"


# Linears that stay in float -------------------------------------------------------------------


class Graph:
    """uint8 [N, 16, 8, 3] to pixels `x` [N, 384], and on: a graph that is written by hand."""

    def __init__(self) -> None:
        self.weights: list[onnx.TensorProto] = []
        self.nodes = [
            helper.make_node("Cast", ["images"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Reshape", ["f", self.constant("flat", [-1, INPUTS])], ["raw"]),
            helper.make_node("Sub", ["raw", self.constant("grey", 127.0)], ["moved"]),
            helper.make_node("Div", ["moved", self.constant("levels", 64.0)], ["x"]),
        ]

    def constant(self, name: str, value: object) -> str:
        made = np.asarray(value)
        made = made.astype(np.float32 if made.dtype.kind == "f" else np.int64)
        self.weights.append(numpy_helper.from_array(made, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str, **more: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], **more))
        return output

    def linear(self, read: str, name: str, matrix: np.ndarray) -> str:
        return self.add("MatMul", [read, self.constant(f"{name}.weight", matrix)], name)

    def embedding(self, of: str) -> bytes:
        length = self.add("ReduceL2", [of, self.constant("last", [1])], "length")
        self.add("Div", [of, length], "embedding")
        graph = helper.make_graph(
            self.nodes,
            "by hand",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 16, 8, 3])],
            [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 32])],
            self.weights,
        )
        opset = helper.make_opsetid("", 20)
        made = helper.make_model(graph, opset_imports=[opset], ir_version=9)
        return bytes(made.SerializeToString())


def matrix(seed: int, rows: int, columns: int) -> np.ndarray:
    found: np.ndarray = np.random.default_rng(seed).normal(size=(rows, columns)) / np.sqrt(rows)
    return found


def people_shown() -> crops.Pictures:
    """Ranges and judges of 16 people each, in memory."""
    random = np.random.default_rng(5)
    halves = []
    for half in range(2):
        looks = random.integers(0, 256, (16, 16, 8, 3))
        shown = looks.repeat(4, axis=0) + random.normal(0, 20, (64, 16, 8, 3))
        records = tuple(
            Record(Path(f"{half}-{at}.jpg"), f"{half}-{at // 4}", at % 4, "ground")
            for at in range(64)
        )
        halves.append(crops.Crops(np.clip(shown, 0, 255).astype(np.uint8), records))
    return crops.Pictures(halves[0], halves[1], (), "", "")


def test_a_dead_activation_leaves_that_linear_in_float_with_a_line() -> None:
    graph = Graph()
    alive = graph.add("Relu", [graph.linear("x", "first", matrix(0, INPUTS, 48))], "alive")
    below = graph.add("Sub", [alive, graph.constant("pruned", 1e3)], "below")
    dead = graph.linear(graph.add("Relu", [below], "nothing"), "second", matrix(1, 48, 32))
    third = graph.linear(alive, "third", matrix(2, 48, 32))
    data, said = graph.embedding(graph.add("Add", [dead, third], "sum")), list[str]()
    made = quantised(data, people_shown(), say=said.append)
    assert made.measured["linears"] == 2
    assert made.measured["kept_in_float"] == {"Linear 2 of 3 (48 to 32, second)": "dead"}
    assert any("Linear 2 of 3 (48 to 32, second) stays in float" in line for line in said)


def with_an_outlier() -> bytes:
    """Two Linears; what the second reads has a channel that leaves the others no steps."""
    graph, gain = Graph(), np.ones(48)
    gain[0] = 100
    read = graph.add("Relu", [graph.linear("x", "first", matrix(0, INPUTS, 48))], "read")
    uneven = graph.add("Mul", [read, graph.constant("gain", gain)], "uneven")
    return graph.embedding(graph.linear(uneven, "second", matrix(1, 48, 32) / gain[:, None]))


def test_explain_puts_the_worst_linear_back_until_the_gates_pass() -> None:
    data, pictures = with_an_outlier(), people_shown()
    with pytest.raises(GateError, match="--explain leaves those in float that lose most"):
        quantised(data, pictures)
    said: list[str] = []
    made = quantised(data, pictures, explain=True, say=said.append)
    worst = "Linear 2 of 2 (48 to 32, second)"
    assert made.measured["kept_in_float"] == {worst: "explain"}
    noise = made.measured["noise_of_each"]
    assert isinstance(noise, dict)
    assert noise[worst] > 10 * noise["Linear 1 of 2 (384 to 48, first)"]
    assert any(line.endswith(worst) for line in said)


def test_explain_that_finds_nothing_to_leave_in_int8_says_so() -> None:
    graph = Graph()
    data = graph.embedding(graph.linear("x", "only", matrix(0, INPUTS, 32)))
    crude = replace(people_shown())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "measure", lambda *_: {"x": 0.05})
        with pytest.raises(GateError, match="no Linear can be in int8"):
            quantised(data, crude, explain=True)


# Experts --------------------------------------------------------------------------------------


def with_a_router(tie: float) -> bytes:
    """A Linear, a router over two experts that reads it, and the experts; `tie` moves one score."""
    graph = Graph()
    feature = graph.linear("x", "trunk", matrix(0, INPUTS, 32))
    scores = graph.linear(feature, "gate", matrix(1, 32, 2))
    tied = graph.add("Add", [scores, graph.constant("tie", [tie, 0.0])], "scores")
    graph.nodes.append(
        helper.make_node("TopK", [tied, graph.constant("k", [1])], ["top", "chosen"])
    )
    is_chosen = graph.add("Equal", ["chosen", graph.constant("numbers", [0, 1])], "is_chosen")
    gates = graph.add("Cast", [is_chosen], "gates", to=TensorProto.FLOAT)
    parts = []
    for number in range(2):
        made = graph.linear(feature, f"expert{number}", matrix(2 + number, 32, 32))
        gate = graph.add(
            "Gather", [gates, graph.constant(f"n{number}", [number])], f"g{number}", axis=1
        )
        parts.append(graph.add("Mul", [made, gate], f"weighed{number}"))
    return graph.embedding(graph.add("Add", parts, "sum"))


def test_a_router_among_near_ties_reads_floats() -> None:
    pictures = people_shown()
    data = with_a_router(0.0)
    found = ranges.measure(data, pictures.ranges.images, "minmax")
    model = onnx.load_from_string(data)
    (router,) = experts.routers(model)
    assert (router.scores, router.takes) == ("scores", 1)
    assert experts.before(model, [router]) == {"trunk"}
    assert [node.output[0] for node in int8.linears(model)] == ["trunk", "expert0", "expert1"]
    judge = Judge(data, pictures.judge)
    rounded = judge.quantised(found, frozenset())
    ahead = []
    for one, is_int8 in ((data, False), (rounded, True)):
        _, (rows,) = experts.ask(one, [router], pictures.judge.images, name="x", quantised=is_int8)
        ahead.append(rows[:, 0] - rows[:, 1])
    moved = int(np.abs(ahead[1] - ahead[0]).argmax())
    tied = with_a_router(-float(ahead[0][moved] + ahead[1][moved]) / 2)  # between the two
    said: list[str] = []
    made = quantised(tied, pictures, say=said.append)
    assert made.measured["kept_in_float"] == {"Linear 1 of 3 (384 to 32, trunk)": "experts"}
    assert "1 Linears before the experts stay in float, for these near ties" in said
    table = made.measured["experts"]
    assert isinstance(table, dict)
    assert table["int8"][0]["agreement"] == 1
    assert 0 < table["int8"][0]["smallest_margin"] < table["int8"][0]["margin"]
    # Where no score is near another one, nothing is kept.
    clear = quantised(with_a_router(100.0), pictures)
    assert clear.measured["kept_in_float"] == {}
