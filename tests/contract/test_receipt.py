"""Receipts: ranges that hold exactly what was stored, and what a batch says of itself for them."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.errors import MessageError
from skyreid.contract.receipt import (
    Range,
    Receipt,
    Status,
    batch_properties,
    decode_batch_properties,
    decode_receipt,
    encode_receipt,
    ranges_of,
)

REFUSED = Receipt("3-ab12", (Range(1, 5, Status.STORED), Range(7, 7, Status.REJECTED, "view")))


@given(st.lists(st.integers(0, 60)))
def test_ranges_hold_exactly_the_numbers_given(seqs: list[int]) -> None:
    ranges = ranges_of(seqs, Status.STORED)
    inside = [n for r in ranges for n in range(r.first, r.last + 1)]
    assert inside == sorted(set(seqs))
    assert all(a.last + 1 < b.first for a, b in itertools.pairwise(ranges))


def test_a_receipt_survives_the_wire() -> None:
    receipt = Receipt("3-ab12", (Range(1, 5, Status.STORED), Range(7, 7, Status.REJECTED)))
    assert decode_receipt(encode_receipt(receipt)) == receipt


def test_a_receipt_with_a_backward_range_is_refused() -> None:
    with pytest.raises(MessageError, match=r"range 5\.\.4"):
        decode_receipt(encode_receipt(Receipt("b", (Range(5, 4, Status.STORED),))))


def test_a_receipt_has_its_golden_bytes_with_a_reason_and_from_before(repository: Path) -> None:
    golden = repository / "tests" / "golden"
    data = (golden / "receipt.reason.bin").read_bytes()
    assert encode_receipt(REFUSED) == data
    assert decode_receipt(data) == REFUSED
    before = Receipt("3-ab12", (Range(1, 5, Status.STORED), Range(7, 7, Status.REJECTED)))
    assert decode_receipt((golden / "receipt.v0.1.bin").read_bytes()) == before


@pytest.mark.parametrize("reason", ["View", "a b", "x" * 33, "view\n", "\N{SNOWMAN}"])
def test_a_reason_that_is_no_short_word_is_refused(reason: str) -> None:
    span = Range(7, 7, Status.REJECTED, reason)
    with pytest.raises(MessageError, match="is no word"):
        decode_receipt(encode_receipt(Receipt("b", (span,))))


@given(st.sets(st.integers(0, 2**63 - 1) | st.integers(0, 60), min_size=1, max_size=32))
def test_a_batch_says_beside_its_bytes_which_sightings_are_in_it(seqs: set[int]) -> None:
    said = batch_properties("3-ab12", sorted(seqs))
    assert decode_batch_properties(said) == ("3-ab12", tuple(sorted(seqs)))


def test_what_a_batch_says_beside_its_bytes_is_written_in_ranges() -> None:
    assert batch_properties("3-ab12", [12, 13, 14, 43]) == {"boot": "3-ab12", "seqs": "12-14,43"}
    assert decode_batch_properties({"boot": "b", "seqs": "12-14,43"}) == ("b", (12, 13, 14, 43))
    assert decode_batch_properties({"other": "x"}) is None


@pytest.mark.parametrize(
    ("boot", "seqs"),
    [
        *(("b", None), (None, "1"), ("", "1"), ("a/b", "1"), ("b" * 65, "1")),
        *(("b", ""), ("b", "x"), ("b", "1,"), ("b", "-1"), ("b", "1-"), ("b", " 1"), ("b", "+1")),
        *(("b", "2,1"), ("b", "1,1"), ("b", "3-2"), ("b", "1-3,3"), ("b", "\u0661")),
        *(("b", "1-33"), ("b", "0-9223372036854775807"), ("b", "9223372036854775808")),
        *(("b", ",".join(str(n) for n in range(0, 66, 2))), ("b", "1" * 100_000)),
    ],
)
def test_what_a_batch_says_wrong_beside_its_bytes_is_refused(
    boot: str | None, seqs: str | None
) -> None:
    said = {k: v for k, v in (("boot", boot), ("seqs", seqs)) if v is not None}
    with pytest.raises(MessageError) as caught:
        decode_batch_properties(said)
    assert caught.value.reason == "properties"
