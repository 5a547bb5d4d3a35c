"""Sealed sightings and pictures on the server: opened, or set aside with a receipt."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from skyreid.contract.errors import SettingsError
from skyreid.contract.picture import Picture, picture_properties
from skyreid.contract.receipt import Range, Receipt, Status, batch_properties
from skyreid.contract.sealed import Sealer, about_picture, about_sighting, key_name
from skyreid.contract.sighting import Sighting
from skyreid.contract.sighting_wire import encode_raw_batch, encode_sighting
from skyreid.contract.site import Site
from skyreid.server.broker import opening as opening_module
from skyreid.server.broker.decoding import Message, receipts, sort_messages
from skyreid.server.broker.opening import KeyRing, Opening, opening_of

SITE = Site(id="plaza", pictures="always")
NOW_NS = 2_000_000_000_000_000_000
JPEG = b"\xff\xd8\xff\xe0" + b"picture" + b"\xff\xd9"


def write_key(folder: Path) -> X25519PrivateKey:
    key = X25519PrivateKey.generate()
    (folder / "seal").mkdir(exist_ok=True)
    (folder / "seal" / f"{key_name(key.public_key())}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return key


def sealer(key: X25519PrivateKey, device: str = "uav1") -> Sealer:
    return Sealer(key.public_key(), site="plaza", device=device)


def records(one: Sealer, sightings: list[Sighting]) -> list[bytes]:
    return [one.seal(encode_sighting(s), about_sighting("1-abcd", s.seq), s.seq) for s in sightings]


def message(channel: str, payload: bytes, user: dict[str, str] | None = None) -> Message:
    return Message(f"skyreid/v1/plaza/dev/uav1/{channel}", payload, user or {}, NOW_NS)


def batch(make: Any, rows: list[bytes], seqs: list[int]) -> Message:
    payload = encode_raw_batch(make.batch([]), rows)
    return message("sightings", payload, batch_properties("1-abcd", seqs))


@pytest.fixture
def opens(tmp_path: Path) -> Callable[..., Opening]:
    (tmp_path / "seal").mkdir()
    return lambda required=False: opening_of(tmp_path, "plaza", required=required)


def test_sealed_sightings_and_pictures_are_stored_as_what_they_hold(
    make: Any, tmp_path: Path, opens: Callable[..., Opening]
) -> None:
    one = sealer(write_key(tmp_path))
    said = [make.sighting(1), make.sighting(2)]
    key = ("1-abcd", "cam1", 1, 2, make.start_ns)
    picture = Picture(*key, one.seal(JPEG, about_picture(*key), 2))
    sent = [
        batch(make, records(one, said), [1, 2]),
        message("picture", picture.jpeg, picture_properties(picture)),
    ]
    out = sort_messages(sent, SITE, None, opens(required=True))
    assert out.refused == []
    assert [a.body for a in out.sightings] == [encode_sighting(s) for s in said]
    assert [p.picture.jpeg for p in out.pictures] == [JPEG]
    stored = Receipt("1-abcd", (Range(1, 2, Status.STORED),))
    assert receipts(out.sightings, out.refused) == [("uav1", stored)]


def test_a_record_that_does_not_open_ends_in_a_receipt_and_blocks_nothing(
    make: Any, tmp_path: Path, opens: Callable[..., Opening]
) -> None:
    key = write_key(tmp_path)
    rows = records(sealer(key), [make.sighting(n) for n in (4, 5, 6, 7)])
    rows[1] = rows[1][:-1] + bytes([rows[1][-1] ^ 1])
    rows[2] = records(sealer(key, "uav2"), [make.sighting(6)])[0]
    rows[3] = b"\x0a"  # does not even say which it is: the one of those named that is left
    out = sort_messages([batch(make, rows, [4, 5, 6, 7])], SITE, None, opens())
    assert [a.sighting.seq for a in out.sightings] == [4]
    (refused,) = out.refused
    assert refused.reason == "sealed"
    assert refused.detail.startswith("3 of 4 sightings, the first: sealed: record 5 does not open")
    bad = Range(5, 7, Status.REJECTED, "sealed")
    whole = Receipt("1-abcd", (Range(4, 4, Status.STORED), bad))
    assert receipts(out.sightings, out.refused) == [("uav1", whole)]


def test_what_is_sealed_to_a_key_that_is_not_here_stays_with_its_device_until_it_is(
    make: Any,
    tmp_path: Path,
    opens: Callable[..., Opening],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    key = write_key(tmp_path)
    (file,) = (tmp_path / "seal").iterdir()
    file.rename(tmp_path / file.name)
    sent = [batch(make, records(sealer(key), [make.sighting(n)]), [n]) for n in (1, 2)]
    opening = opens()
    out = sort_messages(sent, SITE, None, opening)
    assert [(r.reason, r.seqs) for r in out.refused] == [("key", ()), ("key", ())]
    assert receipts(out.sightings, out.refused) == []
    assert caplog.text.count(f"sealed to key {key_name(key.public_key())}, which cannot") == 1
    (tmp_path / file.name).rename(file)
    monkeypatch.setattr(opening_module, "AGAIN_S", 0.0)
    opening.opener._find.__self__._missing.clear()  # type: ignore[union-attr]  # a while later
    out = sort_messages(sent, SITE, None, opening)
    assert [a.sighting.seq for a in out.sightings] == [1, 2]
    (refused, _) = sort_messages(sent, SITE).refused  # a server without any
    assert (refused.reason, refused.seqs) == ("key", ())


def test_a_site_that_demands_it_takes_nothing_in_clear_but_word_that_somebody_is_there(
    make: Any, opens: Callable[..., Opening]
) -> None:
    clear = message("sightings", make.payload([make.sighting(1)]), batch_properties("1-abcd", [1]))
    key = Picture("1-abcd", "cam1", 1, 2, make.start_ns, JPEG)
    beat = message("sightings", make.payload([], watermark_ns=500))
    sent = [clear, message("picture", JPEG, picture_properties(key)), beat]
    out = sort_messages(sent, SITE, None, opens(required=True))
    assert [(r.reason, r.seqs) for r in out.refused] == [("unsealed", ()), ("unsealed", ())]
    assert (out.sightings, out.pictures) == ([], [])
    assert [h.watermark_ns for h in out.heard] == [500]
    out = sort_messages(sent, SITE, None, opens())
    assert (len(out.sightings), len(out.pictures), out.refused) == (1, 1, [])


def test_what_was_opened_here_is_not_set_aside_in_clear(
    make: Any, tmp_path: Path, opens: Callable[..., Opening]
) -> None:
    one = sealer(write_key(tmp_path))
    sent = [batch(make, records(one, [make.sighting(1)]), [1])]
    out = sort_messages(sent, SITE, None, opens())
    out.refuse_clashes(list(out.sightings), SITE)
    (refused,) = out.refused
    assert (refused.message.payload, refused.keep_payload) == (b"", False)


@pytest.mark.parametrize("what", ["no key", "another name", "another kind", "no folder"])
def test_a_key_that_cannot_be_read_is_said_before_anything_runs(tmp_path: Path, what: str) -> None:
    write_key(tmp_path)
    (file,) = (tmp_path / "seal").iterdir()
    if what == "no key":
        file.write_bytes(b"no key")
    elif what == "another name":
        file.rename(file.with_name("0123456789abcdef.key"))
    elif what == "another kind":
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        file.write_bytes(
            Ed25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    else:
        file.unlink(), file.parent.rmdir()
    with pytest.raises(SettingsError, match=r"authority\.folder: "):
        opening_of(tmp_path, "plaza", required=False)


def test_names_that_nobody_has_are_forgotten_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    ring = KeyRing(tmp_path)
    for number in range(1000):
        assert ring.find(f"{number:016x}") is None
    assert len(ring._missing) <= 256


def test_damage_to_the_number_in_clear_has_no_good_sighting_forgotten(
    make: Any, tmp_path: Path, opens: Callable[..., Opening]
) -> None:
    """The device believes the answer: it would delete what the server has not."""
    rows = records(sealer(write_key(tmp_path)), [make.sighting(n) for n in (4, 5, 6)])
    for claimed in (9, 4):  # one that waits on the device, and one of this batch that is good
        damaged = rows[1][:52] + claimed.to_bytes(8, "big") + rows[1][60:]
        sent = [batch(make, [rows[0], damaged, rows[2]], [4, 5, 6])]
        out = sort_messages(sent, SITE, None, opens())
        assert [a.sighting.seq for a in out.sightings] == [4, 6]
        ((_, said),) = receipts(out.sightings, out.refused)
        became = {(r.first, r.last, r.status) for r in said.ranges}
        assert became == {(4, 4, Status.STORED), (6, 6, Status.STORED), (5, 5, Status.REJECTED)}


def test_what_must_not_come_in_clear_is_not_set_aside_in_clear(
    make: Any, opens: Callable[..., Opening]
) -> None:
    clear = message("sightings", make.payload([make.sighting(1)]), batch_properties("1-abcd", [1]))
    key = Picture("1-abcd", "cam1", 1, 2, make.start_ns, JPEG)
    sent = [clear, message("picture", JPEG, picture_properties(key))]
    out = sort_messages(sent, SITE, None, opens(required=True))
    assert [(r.reason, r.keep_payload) for r in out.refused] == [("unsealed", False)] * 2


def test_a_device_that_thinks_of_ever_new_keys_does_not_fill_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ring = KeyRing(tmp_path)
    for number in range(1000):
        assert ring.find(f"{number:016x}") is None
    assert 1 <= len(caplog.records) <= 20


def test_a_private_key_that_anybody_can_read_is_said(
    tmp_path: Path, opens: Callable[..., Opening], caplog: pytest.LogCaptureFixture
) -> None:
    write_key(tmp_path)
    (file,) = (tmp_path / "seal").iterdir()
    for folder, mode, said in ((0o700, 0o644, 0), (0o755, 0o600, 0), (0o755, 0o644, 1)):
        caplog.clear()
        file.parent.chmod(folder), file.chmod(mode)
        opens()
        assert caplog.text.count(f"{file} opens what devices seal, and anybody") == said
