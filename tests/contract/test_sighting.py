"""The wire: what goes in comes out, and nothing malformed gets through."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skyreid.contract import sighting_pb2 as pb
from skyreid.contract.errors import MessageError
from skyreid.contract.receipt import (
    decode_receipt,
)
from skyreid.contract.sighting import (
    MAX_DIM,
    MAX_PAUSES,
    Box,
    Clock,
    Ground,
    Kind,
    Lane,
    Modality,
    ModelRef,
    Pause,
    Sighting,
    SightingBatch,
    View,
    pauses_from_ms,
    pauses_in_ms,
)
from skyreid.contract.sighting_wire import (
    MAX_BATCH_BYTES,
    decode_batch,
    decode_sighting,
    decode_usable,
    encode_batch,
    encode_raw_batch,
    encode_sighting,
)

DIM = 8
START_NS = 1_700_000_000_000_000_000


def make_sighting(seq: int = 1, **changes: object) -> Sighting:
    direction = np.arange(1, DIM + 1, dtype=np.float32) * (1 if seq % 2 else -1)
    whole = Sighting(
        seq=seq,
        camera="cam1",
        view=View.AERIAL,
        track=7,
        revision=2,
        kind=Kind.UPDATE,
        first_seen_ns=START_NS,
        captured_at_ns=START_NS + 5,
        clock=Clock.FILE,
        clock_error_ms=3,
        box=Box(1.5, 2.25, 30.0, 80.5, 1280, 720),
        quality=0.75,
        crops=4,
        embedding=direction / np.linalg.norm(direction),
        spread=0.875,
        ground=Ground(1.0, -2.0, 0.25, 0.125, 0.5),
        modality=Modality.INFRARED,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def make_batch(*sightings: Sighting, **changes: object) -> SightingBatch:
    whole = SightingBatch(
        site="plaza",
        device="uav-1",
        boot="3-ab12",
        lane=Lane.LIVE,
        sent_at_ns=START_NS + 9,
        model=ModelRef("0123456789abcdef", DIM, "f" * 64, "vdt-tiny"),
        sightings=sightings,
        watermark_ns=START_NS + 5,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def decode(data: bytes) -> SightingBatch:
    return decode_batch(data, site="plaza", device="uav-1")


def test_a_batch_survives_the_wire() -> None:
    first, second = make_sighting(1), make_sighting(2, ground=None, kind=Kind.END)
    out = decode(encode_batch(make_batch(first, second)))
    assert (out.site, out.device, out.boot, out.lane) == ("plaza", "uav-1", "3-ab12", Lane.LIVE)
    assert out.watermark_ns == START_NS + 5
    assert out.model == ModelRef("0123456789abcdef", DIM, "f" * 64, "vdt-tiny")
    for sent, got in zip((first, second), out.sightings, strict=True):
        for field in dataclasses.fields(Sighting):
            if field.name != "embedding":
                assert getattr(got, field.name) == getattr(sent, field.name), field.name
        np.testing.assert_allclose(got.embedding, sent.embedding, atol=5e-4)  # float16
        assert np.linalg.norm(got.embedding) == pytest.approx(1.0, abs=1e-6)


MS = 10**6
PAUSES = (
    Pause(START_NS + 900 * MS, START_NS + 1_600 * MS),
    Pause(START_NS + 1_600 * MS, START_NS + 3_000 * MS),
)


def paused(*pauses: Pause, seconds: float = 4.0) -> Sighting:
    return make_sighting(captured_at_ns=START_NS + round(seconds * 1e9), pauses=pauses)


def paused_bytes(turns_ms: list[int], seconds: float = 4.0) -> bytes:
    message = pb.Sighting.FromString(encode_sighting(paused(seconds=seconds)))
    message.pauses_ms.extend(turns_ms)
    return message.SerializeToString()


def test_when_nobody_saw_somebody_survives_the_wire() -> None:
    assert decode_sighting(encode_sighting(paused(*PAUSES)), DIM).pauses == PAUSES
    assert decode_sighting(paused_bytes([900, 700, 0, 1_400]), DIM).pauses == PAUSES


def test_a_pause_between_milliseconds_is_told_as_what_is_within_it() -> None:
    exact = (
        Pause(START_NS + 900 * MS + 1, START_NS + 1_601 * MS - 1),
        Pause(START_NS + 2_000 * MS + 1, START_NS + 2_001 * MS),
    )
    told = Pause(START_NS + 901 * MS, START_NS + 1_600 * MS)
    assert decode_sighting(encode_sighting(paused(*exact)), DIM).pauses == (told,)


def test_a_sighting_without_pauses_is_as_long_as_ever_and_one_with_one_hardly_longer() -> None:
    without = encode_sighting(paused())
    assert decode_sighting(without, DIM).pauses == ()
    assert pb.Sighting.FromString(without).SerializeToString() == without
    assert b"\x92\x01" not in without[-8:]  # the field's tag
    assert len(encode_sighting(paused(PAUSES[0]))) - len(without) == 7


@pytest.mark.parametrize(
    ("turns_ms", "detail"),
    [
        ([900], "pauses_ms has 1 numbers, not pairs of them"),
        ([900, 0], "pauses_ms says a pause of 0 ms"),
        ([900, 3_101], "pauses_ms ends after 4001 ms, beyond captured_at_ns"),
        ([2**32 - 1] * 64, "pauses_ms ends after 274877906880 ms, beyond captured_at_ns"),
        ([1] * 66, "pauses_ms says 33 pauses, at most 32"),
        ([1] * 100_000, "pauses_ms says 50000 pauses, at most 32"),
    ],
)
def test_a_hostile_list_of_pauses_is_refused_with_one_line(
    turns_ms: list[int], detail: str
) -> None:
    good = encode_sighting(make_sighting(2))
    batch = encode_raw_batch(make_batch(), [paused_bytes(turns_ms), good])
    decoded = decode_usable(batch, site="plaza", device="uav-1")
    assert list(decoded.raw) == [good]
    assert [str(u.error) for u in decoded.unusable] == [f"sighting: {detail}"]


def test_as_many_pauses_as_may_be_are_read() -> None:
    said = decode_sighting(paused_bytes([10, 90] * MAX_PAUSES, 3.2), DIM)
    assert len(said.pauses) == MAX_PAUSES
    assert said.pauses[-1].end_ns == said.captured_at_ns


@given(
    st.lists(st.tuples(st.integers(0, 10**12), st.integers(1, 10**12)), max_size=MAX_PAUSES),
    st.integers(0, 10**12),
)
def test_pauses_come_back_within_a_millisecond_and_never_longer(
    turns: list[tuple[int, int]], rest: int
) -> None:
    at_ns, pauses = START_NS, []
    for seen_ns, unseen_ns in turns:
        begin_ns = at_ns + seen_ns
        at_ns = begin_ns + unseen_ns
        pauses.append(Pause(begin_ns, at_ns))
    said = pauses_from_ms(pauses_in_ms(pauses, START_NS), START_NS, at_ns + rest)
    told = [p for p in pauses if (p.end_ns - START_NS) // MS > -((START_NS - p.begin_ns) // MS)]
    assert len(said) == len(told)
    for one, other in zip(said, told, strict=True):
        assert 0 <= one.begin_ns - other.begin_ns < MS
        assert 0 <= other.end_ns - one.end_ns < MS


def test_a_heartbeat_has_no_sightings() -> None:
    assert decode(encode_batch(make_batch())).sightings == ()


def test_sightings_already_encoded_make_the_same_batch() -> None:
    batch = make_batch(make_sighting(1), make_sighting(300))
    raw = encode_raw_batch(make_batch(), [encode_sighting(s) for s in batch.sightings])
    assert pb.SightingBatch.FromString(raw) == pb.SightingBatch.FromString(encode_batch(batch))
    assert [s.seq for s in decode(raw).sightings] == [1, 300]


def test_a_batch_and_its_raw_form_differ_in_the_sightings_alone() -> None:
    """Whoever adds a field to one adds it to the other."""
    whole, raw = (
        {
            f.name: (f.number, f.type, f.is_repeated, f.message_type or f.enum_type)
            for f in message.DESCRIPTOR.fields
        }
        for message in (pb.SightingBatch, pb.RawSightingBatch)
    )
    assert whole.pop("sightings")[0] == raw.pop("sightings")[0] == 8
    assert whole == raw


def test_the_generated_code_is_of_the_schema(repository: Path, tmp_path: Path) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
    from grpc_tools import protoc

    out = tmp_path / "set"
    name = "skyreid/contract/sighting.proto"
    assert protoc.main(["", f"-I{repository}/contract", f"--descriptor_set_out={out}", name]) == 0
    (described,) = FileDescriptorSet.FromString(out.read_bytes()).file
    for message in described.message_type:
        for field in message.field:
            field.ClearField("json_name")
    assert described == FileDescriptorProto.FromString(pb.DESCRIPTOR.serialized_pb)


def test_only_the_modules_of_the_wire_touch_the_generated_code(repository: Path) -> None:
    rooms = ("contract", "bundle", "train", "export", "edge", "server", "scripts", "bench")
    inside = {
        path.relative_to(repository).as_posix()
        for room in rooms
        for path in (repository / room).rglob("*.py")
        if re.search(r"import sighting_pb2|sighting_pb2 import", path.read_text())
    }
    folder = "contract/skyreid/contract"
    assert inside == {f"{folder}/sighting_wire.py", f"{folder}/receipt.py"}


def test_each_sighting_comes_with_its_bytes_as_they_came() -> None:
    later = encode_sighting(make_sighting(2)) + b"\xa0\x3e\x07"  # field 996, of a later release
    sent = [encode_sighting(make_sighting(1)), later]
    decoded = decode_usable(encode_raw_batch(make_batch(), sent), site="plaza", device="uav-1")
    assert list(decoded.raw) == sent
    assert [s.seq for s in decoded.batch.sightings] == [1, 2]
    assert decoded.unusable == ()


def test_what_cannot_be_used_spoils_nothing_else() -> None:
    sent = [
        encode_sighting(make_sighting(1)),
        b"\x0a",  # a length without its bytes
        encode_sighting(make_sighting(3, crops=0)),
        encode_sighting(make_sighting(2**63)),
        encode_sighting(make_sighting(5, track=2**63)),
        encode_sighting(make_sighting(6)),
    ]
    decoded = decode_usable(encode_raw_batch(make_batch(), sent), site="plaza", device="uav-1")
    assert list(decoded.raw) == [sent[0], sent[5]]
    assert [u.seq for u in decoded.unusable] == [None, 3, 2**63, 5]
    assert {u.error.reason for u in decoded.unusable} == {"sighting"}
    with pytest.raises(MessageError, match="1 bytes are not a Sighting"):
        decode(encode_raw_batch(make_batch(), sent))


def test_a_modality_of_a_later_release_is_unknown_and_no_reason_to_refuse() -> None:
    assert decode_sighting(encode_sighting(make_sighting()), DIM).modality is Modality.INFRARED
    later = encode_sighting(make_sighting(modality=Modality.UNKNOWN)) + bytes([0x88, 0x01, 9])
    assert decode_sighting(later, DIM).modality is Modality.UNKNOWN


def test_unknown_fields_of_a_later_schema_are_tolerated() -> None:
    later = encode_batch(make_batch(make_sighting())) + bytes([15 << 3 | 0, 42])
    assert len(decode(later).sightings) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"site": "other"}, "envelope"),
        ({"device": "uav-2"}, "envelope"),
        ({"boot": "a/b"}, "envelope"),
        ({"watermark_ns": -1}, "envelope"),
        ({"model": ModelRef("", DIM, "", "")}, "envelope"),
        ({"model": ModelRef("0123456789abcdef", 0, "", "")}, "envelope"),
        ({"model": ModelRef("0123456789abcdef", DIM + 1, "", "")}, "sighting"),
        ({"sightings": tuple(make_sighting(i) for i in range(33))}, "envelope"),
    ],
)
def test_a_wrong_envelope_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(MessageError) as caught:
        decode(encode_batch(make_batch(make_sighting(), **changes)))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"camera": ""},
        {"camera": "cam+1"},
        {"first_seen_ns": START_NS + 6},
        {"first_seen_ns": 0},
        {"box": Box(5, 2, 4, 9, 10, 10)},
        {"box": Box(1, 2, float("nan"), 9, 10, 10)},
        {"box": Box(1, 2, 3, 9, 0, 10)},
        {"quality": 1.5},
        {"quality": float("nan")},
        {"crops": 0},
        {"embedding": np.zeros(DIM, np.float32)},
        {"embedding": np.full(DIM, np.nan, np.float32)},
        {"spread": float("inf")},
        {"ground": Ground(float("nan"), 0, 1, 0, 1)},
        {"ground": Ground(0, 0, 1, 2, 1)},
    ],
)
def test_a_wrong_sighting_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        decode(encode_batch(make_batch(make_sighting(**changes))))
    assert caught.value.reason == "sighting"


def test_another_schema_is_refused() -> None:
    message = pb.SightingBatch()
    message.ParseFromString(encode_batch(make_batch()))
    message.schema = 3
    with pytest.raises(MessageError, match="schema 3") as caught:
        decode(message.SerializeToString())
    assert caught.value.reason == "schema"


@given(st.binary(max_size=400))
@settings(max_examples=300)
def test_random_bytes_raise_message_error_and_nothing_else(data: bytes) -> None:
    for parse in (decode, decode_receipt, lambda d: decode_sighting(d, DIM)):
        try:
            parse(data)
        except MessageError:
            pass


@given(st.data())
@settings(max_examples=200)
def test_a_corrupted_batch_never_yields_an_invalid_sighting(data: st.DataObject) -> None:
    good = bytearray(encode_batch(make_batch(make_sighting(1), make_sighting(2))))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    try:
        batch = decode(bytes(good[:cut]))
    except MessageError:
        return
    for sighting in batch.sightings:
        assert sighting.first_seen_ns <= sighting.captured_at_ns
        assert np.isfinite(sighting.embedding).all()
        assert np.linalg.norm(sighting.embedding) == pytest.approx(1.0, abs=1e-5)


def test_the_bytes_of_release_0_1_stay_decodable(repository: Path) -> None:
    """The recorded message of every release must decode for ever."""
    data = (repository / "tests/golden/sighting-batch.v0.1.bin").read_bytes()
    out = decode(data)
    assert [s.seq for s in out.sightings] == [1, 2]
    assert out.sightings[0].ground == Ground(1.0, -2.0, 0.25, 0.125, 0.5)
    assert out.sightings[1].ground is None
    assert {s.modality for s in out.sightings} == {Modality.UNKNOWN}
    assert encode_batch(out) == data


def test_the_bytes_of_a_batch_with_modalities_stay_as_they_are(repository: Path) -> None:
    data = (repository / "tests/golden/sighting-batch.modality.bin").read_bytes()
    out = decode(data)
    assert [s.modality for s in out.sightings] == [Modality.INFRARED, Modality.COLOUR]
    assert encode_batch(out) == data


def test_the_bytes_of_a_batch_with_pauses_stay_as_they_are(repository: Path) -> None:
    data = (repository / "tests/golden/sighting-batch.pauses.bin").read_bytes()
    out = decode(data)
    assert [s.pauses for s in out.sightings] == [PAUSES, ()]
    assert encode_batch(out) == data


def test_what_is_wrong_with_a_sighting_is_said_once() -> None:
    with pytest.raises(MessageError, match=r"^sighting: no crops$"):
        decode(encode_batch(make_batch(make_sighting(1), make_sighting(2, crops=0))))


def test_the_largest_sighting_fits_into_a_message() -> None:
    """32 of 4,096 dimensions did not: a batch is cut by bytes, one always fits."""
    vector = np.full(MAX_DIM, 1 / 64, np.float32)
    name = "n" * 64
    largest = make_sighting(2**63 - 1, track=2**63 - 1, camera=name, embedding=vector)
    model = ModelRef(name, MAX_DIM, "f" * 200, "m" * 200)
    batch = make_batch(largest, site=name, device=name, boot=name, model=model)
    data = encode_batch(batch)
    assert len(data) < MAX_BATCH_BYTES // 8
    assert decode_batch(data, site=name, device=name).sightings[0].seq == 2**63 - 1
