"""20,000 mutated inputs of a seed: decoders end in what they say or in an error of ours.

`bench/fuzz.py` gives them hours. What it finds becomes a file of the corpus.
"""

import random
from itertools import islice
from pathlib import Path

import fuzz
import fuzz_decoders
import pytest

Decoders = dict[str, tuple[fuzz_decoders.Decode, list[bytes]]]
COUNTS = {"edge settings": 20, "server settings": 20, "sightings": 200, "site": 300, "zip": 300}
"""Inputs of those that take milliseconds each; the others share what is left of 20,000."""


@pytest.fixture(scope="module")
def decoders(tmp_path_factory: pytest.TempPathFactory) -> Decoders:
    return fuzz_decoders.decoders(tmp_path_factory.mktemp("fuzz"))


def test_20000_mutated_inputs_end_in_an_error_of_ours_or_are_read(decoders: Decoders) -> None:
    share = (20_000 - sum(COUNTS.values())) // (len(decoders) - len(COUNTS)) + 1
    total, finds = 0, []
    for name, (decode, seeds) in decoders.items():
        outcome = fuzz.Outcome()
        for data in islice(fuzz.inputs(name, seeds, 20261129), COUNTS.get(name, share)):
            fuzz.one(name, decode, data, outcome)
        finds += [find for find in outcome.finds if "s of CPU" not in str(find["said"])]
        total += outcome.inputs
    assert finds == []
    assert total >= 20_000


def test_every_decoder_reads_some_of_what_is_mutated(decoders: Decoders) -> None:
    """Else nothing behind its first check would ever be reached."""
    for name, (decode, seeds) in decoders.items():
        outcome = fuzz.Outcome()
        if name == "zip":  # its digests fit nothing that was changed
            continue
        for data in islice(fuzz.inputs(name, seeds, 1), 300):
            fuzz.one(name, decode, data, outcome)
            if outcome.accepted:
                break
        assert outcome.accepted, name


def test_an_input_follows_from_seed_name_and_number() -> None:
    first = list(islice(fuzz.inputs("klv", [b"some bytes to change"], 3), 50))
    assert first == list(islice(fuzz.inputs("klv", [b"some bytes to change"], 3), 50))
    assert first[20:] == list(islice(fuzz.inputs("klv", [b"some bytes to change"], 3, 20), 30))
    assert first != list(islice(fuzz.inputs("klv", [b"some bytes to change"], 4), 50))


def test_a_find_is_a_find(tmp_path: Path) -> None:
    def breaks(data: bytes) -> None:
        raise KeyError(data)

    outcome = fuzz.Outcome()
    fuzz.one("it", breaks, fuzz.mutated(b"x", random.Random(1)), outcome)
    assert [find["decoder"] for find in outcome.finds] == ["it"]
    assert "KeyError at test_fuzz.py" in str(outcome.finds[0]["said"])
