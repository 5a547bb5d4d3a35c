"""Sealed records: HPKE as its RFC has it, one nonce once, and nothing that passes for another."""

import threading
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from skyreid.contract import sealed
from skyreid.contract.errors import InputError, MessageError
from skyreid.contract.picture import Picture, content_type, decode_picture, picture_properties
from skyreid.contract.sealed import (
    MAGIC,
    OVERHEAD_BYTES,
    Opener,
    Sealer,
    about_picture,
    about_sighting,
    key_name,
    read_public_key,
)
from skyreid.contract.sighting import (
    Box,
    Clock,
    Kind,
    Lane,
    ModelRef,
    Sighting,
    SightingBatch,
    View,
)
from skyreid.contract.sighting_wire import (
    MAX_SIGHTINGS,
    decode_batch,
    decode_usable,
    encode_raw_batch,
    encode_sighting,
)

SITE_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
RUN_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
RECORD = bytes.fromhex


def make_sighting(seq: int = 1) -> Sighting:
    return Sighting(
        seq=seq,
        camera="cam1",
        view=View.AERIAL,
        track=7,
        revision=2,
        kind=Kind.UPDATE,
        first_seen_ns=1_700_000_000_000_000_000,
        captured_at_ns=1_700_000_000_000_000_005,
        clock=Clock.FILE,
        clock_error_ms=3,
        box=Box(1.5, 2.25, 30.0, 80.5, 1280, 720),
        quality=0.75,
        crops=4,
        embedding=np.full(8, 8**-0.5, np.float32),
        spread=0.875,
    )


def opener(key: X25519PrivateKey | None = SITE_KEY, site: str = "plaza") -> Opener:
    held = {} if key is None else {key_name(key.public_key()): key}
    return Opener(site, held.get)


def sealer(device: str = "uav-1", site: str = "plaza") -> Sealer:
    return Sealer(SITE_KEY.public_key(), site=site, device=device)


def seal(of: Sealer, seq: int, plain: bytes = b"somebody", boot: str = "3-ab12") -> bytes:
    return of.seal(plain, about_sighting(boot, seq), seq)


def opened(
    record: bytes, device: str = "uav-1", boot: str = "3-ab12", site: str = "plaza"
) -> bytes:
    return opener(site=site).open(record, device, about_sighting(boot), numbered=True)


def test_the_construction_is_that_of_rfc_9180() -> None:
    """Its appendix A.2.1: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, base mode."""
    run = X25519PrivateKey.from_private_bytes(
        RECORD("f4ec9b33b792c372c1d2c2063507b684ef925b8c75a42dbcbf57d63ccd381600")
    )
    site = RECORD("4310ee97d88cc1f088a5576c77ab0cf5c3ac797f3d95139c6c84b5429c59662a")
    encapsulated = run.public_key().public_bytes_raw()
    assert encapsulated.hex().startswith("1afa08d3dec047a643885163f1180476")
    records = sealed._Records(
        run.exchange(X25519PublicKey.from_public_bytes(site)),
        encapsulated,
        site,
        RECORD("4f6465206f6e2061204772656369616e2055726e"),
    )
    text = b"Beauty is truth, truth beauty"
    assert records.seal(0, b"Count-0", text) == RECORD(
        "1c5250d8034ec2b784ba2cfd69dbdb8af406cfe3ff938e131f0def8c8b60b4db21993c62ce81883d2dd1b51a28"
    )
    assert records.seal(1, b"Count-1", text) == RECORD(
        "6b53c051e4199c518de79594e1c4ab18b96f081549d45ce015be002090bb119e85285337cc95ba5f59992dc98c"
    )


def test_no_nonce_comes_twice_under_a_key_whatever_is_sealed_twice_and_by_whom() -> None:
    one, records = sealer(), list[bytes]()
    lock = threading.Lock()

    def work() -> None:
        made = [seal(one, 7) for _ in range(500)]  # the same sighting, again and again
        with lock:
            records.extend(made)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one.use(SITE_KEY.public_key())
    records += [seal(one, 7), seal(sealer(), 7)]
    used = {(record[4:44], record[44:52]) for record in records}  # whose key, and the number
    assert len(used) == len(records)
    assert len({run for run, _ in used}) == 3  # another run, or another key: another key of records
    assert {opened(record) for record in records} == {b"somebody"}


def test_a_record_opens_as_what_it_is_of_and_as_nothing_else() -> None:
    record = seal(sealer(), 7)
    assert len(record) == len(b"somebody") + OVERHEAD_BYTES
    assert b"somebody" not in record
    assert opened(record) == b"somebody"
    other_seq = record[:52] + (8).to_bytes(8, "big") + record[60:]
    other_number = record[:44] + (5).to_bytes(8, "big") + record[52:]
    picture = about_picture("3-ab12", "cam1", 7, 7, 1)
    for attempt in (
        lambda: opened(record, device="uav-2"),
        lambda: opened(record, boot="4-ab12"),
        lambda: opened(record, site="market"),
        lambda: opened(other_seq),
        lambda: opened(other_number),
        lambda: opener().open(record, "uav-1", picture),
        lambda: opened(record[:-1]),
        lambda: opened(record[: OVERHEAD_BYTES - 1]),
        lambda: opened(b"sk1"),
        lambda: opened(record[:12] + bytes(32) + record[44:]),  # a point of small order
    ):
        with pytest.raises(MessageError) as refused:
            attempt()
        assert refused.value.reason == "sealed"


@given(st.integers(0, OVERHEAD_BYTES + 7), st.integers(1, 255))
def test_a_record_with_any_byte_changed_does_not_open(place: int, change: int) -> None:
    record = bytearray(seal(sealer(), 7))
    record[place] ^= change
    with pytest.raises(MessageError):
        opened(bytes(record))


def test_runs_that_never_were_put_none_out_that_is() -> None:
    """Whoever sends noise makes the server agree on a key each time, and keep none of them."""
    one, good = opener(), seal(sealer(), 7)
    assert one.open(good, "uav-1", about_sighting("3-ab12", 7)) == b"somebody"
    for number in range(3):
        noise = good[:12] + bytes([number + 9] * 32) + good[44:]
        with pytest.raises(MessageError):
            one.open(noise, "uav-1", about_sighting("3-ab12", 7))
    assert len(one._runs) == 1


def test_a_private_key_that_is_not_here_is_said_as_such() -> None:
    with pytest.raises(MessageError, match=key_name(SITE_KEY.public_key())) as refused:
        opener(None).open(seal(sealer(), 7), "uav-1", about_sighting("3-ab12", 7))
    assert refused.value.reason == "key"


def batch_of(records: list[bytes]) -> bytes:
    model = ModelRef("0123456789abcdef", 8, "f" * 64, "vdt-tiny")
    return encode_raw_batch(SightingBatch("plaza", "uav-1", "3-ab12", Lane.LIVE, 9, model), records)


def test_a_sealed_batch_has_its_golden_bytes(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    golden = (repository / "tests/golden/sealed-batch.v2.bin").read_bytes()
    monkeypatch.setattr(X25519PrivateKey, "generate", lambda: RUN_KEY)
    one = sealer()
    made = [seal(one, seq, encode_sighting(make_sighting(seq))) for seq in (12, 13)]
    assert batch_of(made) == golden
    batch = decode_batch(golden, site="plaza", device="uav-1", opener=opener())
    assert [s.seq for s in batch.sightings] == [12, 13]
    assert encode_sighting(batch.sightings[0]) == encode_sighting(make_sighting(12))


def test_the_good_of_a_sealed_batch_is_taken_and_the_rest_named() -> None:
    one = sealer()
    records = [seal(one, seq, encode_sighting(make_sighting(seq))) for seq in (1, 2, 3, 4)]
    records[1] = records[1][:-1] + b"\0" if records[1][-1] else records[1][:-1] + b"\1"
    records[2] = b"\x0a"
    decoded = decode_usable(batch_of(records), site="plaza", device="uav-1", opener=opener())
    assert decoded.sealed
    assert [s.seq for s in decoded.batch.sightings] == [1, 4]
    assert [(u.seq, u.error.reason) for u in decoded.unusable] == [(2, "sealed"), (None, "sealed")]
    none = decode_usable(batch_of(records[:1]), site="plaza", device="uav-1")
    assert [(u.seq, u.error.reason) for u in none.unusable] == [(1, "key")]


def test_in_clear_and_without_sightings_a_batch_is_as_it_always_was() -> None:
    for data in (batch_of([]), batch_of([encode_sighting(make_sighting())])):
        assert not decode_usable(data, site="plaza", device="uav-1").sealed


def test_a_batch_of_sealed_sightings_is_larger_by_what_a_record_takes() -> None:
    plain = [encode_sighting(make_sighting(seq)) for seq in range(1, MAX_SIGHTINGS + 1)]
    one = sealer()
    records = [seal(one, n, data) for n, data in enumerate(plain, 1)]
    grown = len(batch_of(records)) - len(batch_of(plain))
    assert grown <= MAX_SIGHTINGS * (OVERHEAD_BYTES + 1)


def test_a_sealed_picture_opens_for_its_tracklet_alone() -> None:
    jpeg = b"\xff\xd8\xff\xe0" + b"picture" + b"\xff\xd9"
    key = ("3-ab12", "cam1", 7, 12, 1_700_000_000_000_000_005)
    picture = Picture(*key, sealer().seal(jpeg, about_picture(*key), 12))
    user = picture_properties(picture)
    assert (user["schema_version"], content_type(picture)) == ("2", "application/octet-stream")
    assert b"\xff\xd8\xff" not in picture.jpeg
    got = decode_picture(picture.jpeg, user, device="uav-1", opener=opener())
    assert got == Picture(*key, jpeg)
    for change, reason in (
        ({"track": "8"}, "sealed"),
        ({"seq": "13"}, "sealed"),
        ({"schema_version": "1"}, "picture"),
    ):
        with pytest.raises(MessageError) as refused:
            decode_picture(picture.jpeg, {**user, **change}, device="uav-1", opener=opener())
        assert refused.value.reason == reason
    with pytest.raises(MessageError) as refused:
        decode_picture(picture.jpeg, user, device="uav-1")
    assert refused.value.reason == "key"


def test_a_file_that_is_no_public_key_is_refused_in_a_line(tmp_path: Path) -> None:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    good = SITE_KEY.public_key().public_bytes(serialization.Encoding.PEM, form)
    path = tmp_path / "seal.pub"
    path.write_bytes(good)
    assert key_name(read_public_key(path)) == key_name(SITE_KEY.public_key())
    for data in (b"", b"no key", good[:40], good.replace(b"PUBLIC", b"PRIVATE")):
        path.write_bytes(data)
        with pytest.raises(InputError, match="no public key of X25519"):
            read_public_key(path)
    path.unlink()
    with pytest.raises(InputError, match="No such file"):
        read_public_key(path)


def test_neither_a_message_nor_a_picture_begins_as_a_record_does() -> None:
    assert MAGIC[0] & 7 == 7  # a wire type that protobuf does not have
    assert not MAGIC.startswith(b"\xff\xd8")


def test_a_batch_of_a_run_for_each_record_does_not_cost_an_agreement_for_each() -> None:
    """Of 10,000 records a second, each with a key of its own, a server would do nothing else."""
    agreed = []

    def find(name: str) -> X25519PrivateKey:
        agreed.append(name)
        return SITE_KEY

    rows = [seal(sealer(), n, encode_sighting(make_sighting(n))) for n in range(MAX_SIGHTINGS)]
    whole = decode_usable(
        batch_of(rows), site="plaza", device="uav-1", opener=Opener("plaza", find)
    )
    assert 2 <= len(agreed) <= 8  # a site's key may be replaced within a boot
    assert len(whole.batch.sightings) == len(agreed)
    assert {each.error.reason for each in whole.unusable} == {"sealed"}
    agreed.clear()
    few = [sealer() for _ in range(4)]
    noise = [seal(few[n % 4], n, b"")[:-1] + b"\0" for n in range(MAX_SIGHTINGS)]
    decode_usable(batch_of(noise), site="plaza", device="uav-1", opener=Opener("plaza", find))
    assert len(agreed) == 4  # nor where none of them opens


def test_a_public_key_with_which_nobody_agrees_is_refused_before_a_device_runs(
    tmp_path: Path,
) -> None:
    path = tmp_path / "seal.pub"
    small = X25519PublicKey.from_public_bytes(bytes(32))
    path.write_bytes(
        small.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    with pytest.raises(InputError, match="no public key of X25519"):
        read_public_key(path)
