"""Receipts: ranges that hold exactly what was stored."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract.errors import MessageError
from skyreid.contract.receipt import (
    Range,
    Receipt,
    Status,
    decode_receipt,
    encode_receipt,
    ranges_of,
)


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
