"""Words of a command line that become fields of options."""

import pytest

from skyreid.contract.errors import SettingsError
from skyreid.train.options import fields


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
