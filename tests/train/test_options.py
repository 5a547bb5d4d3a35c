"""Words of a command line that become fields of options."""

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.train.options import fields, overridden, taken_out


def test_values_are_json_where_they_can_be_read_so_else_text() -> None:
    deep = "[" * 100_000
    assert fields(["a=1", "b=grid", "c=", "d=x=y", f"e={deep}"]) == {
        "a": 1, "b": "grid", "c": "", "d": "x=y", "e": deep,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        (["sampling"], "'sampling' is not KEY=VALUE"),
        (["=grid"], "'=grid' is not KEY=VALUE"),
        (["sampling=hat", "sampling=grid"], "sampling is given twice, as 'hat' and 'grid'"),
    ],
)
def test_words_that_say_nothing_or_two_things_are_refused(pairs: list[str], why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        fields(pairs)


def test_words_of_a_command_line_set_values_of_a_recipe() -> None:
    rest, words = taken_out(
        ["fit", "--run.steps", "2000", "r.toml", "--model.trunk.stride=[12,10]", "--out", "o"]
    )
    assert rest == ["fit", "r.toml", "--out", "o"]
    table = {"run": {"epochs": 60, "seed": 1}, "model": {"variant": "vit-tiny"}}
    assert overridden(table, words) == {
        "run": {"steps": 2000, "seed": 1},
        "model": {"variant": "vit-tiny", "trunk": {"stride": [12, 10]}},
    }
    assert table["run"] == {"epochs": 60, "seed": 1}
    assert overridden({}, ["--model.variant", "vdt-base"]) == {"model": {"variant": "vdt-base"}}
    with pytest.raises(SettingsError, match=r"--run\.steps: a value is missing"):
        overridden(table, ["--run.steps"])
    with pytest.raises(SettingsError, match="variant is a value in the recipe and no table"):
        overridden(table, ["--model.variant.size", "1"])
