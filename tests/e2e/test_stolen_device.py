"""A device that is killed and stolen: nothing of anybody is on its disk, and nothing is lost."""

import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from chain import Chain
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from settings_files import q

from skyreid.contract.errors import MessageError
from skyreid.contract.recording import read_sightings
from skyreid.contract.sealed import Opener, key_name
from skyreid.contract.sighting import Float32
from skyreid.contract.sighting_wire import decode_sighting, embedding_bytes

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF"
"""How OpenCV begins one; of three bytes alone a megabyte that is sealed has one now and then."""


def runs_of(data: bytes, embeddings: Iterable[Float32]) -> Iterator[str]:
    """Where 16 bytes of an embedding stand in ``data``, as float16 or float32, at any byte.

    Four numbers in a row are looked for: that is 16 bytes of float32, and half of such a run of
    float16. Float32 is compared as float16, which is all of an embedding that a test can know.
    """
    halves = {}
    for number, embedding in enumerate(embeddings):
        whole = embedding_bytes(embedding)
        for at in range(0, len(whole) - 7, 2):
            if len(set(whole[at : at + 8])) > 3:  # no run of zeros
                halves[int.from_bytes(whole[at : at + 8], "little")] = number
    known = np.fromiter(halves, np.uint64)
    for shift in range(8):
        words = np.frombuffer(data[shift : shift + (len(data) - shift) // 8 * 8], np.uint64)
        if len(found := words[np.isin(words, known)]):
            yield f"float16 of embedding {halves[int(found[0])]}"
    with np.errstate(all="ignore"):
        for shift in range(16):
            part = data[shift : shift + (len(data) - shift) // 16 * 16]
            words = np.frombuffer(part, "<f4").astype("<f2").view(np.uint64)
            if len(found := words[np.isin(words, known)]):
                yield f"float32 of embedding {halves[int(found[0])]}"


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spooled(path: Path) -> set[tuple[str, int]]:
    db = sqlite3.connect(path)
    try:
        return set(db.execute("SELECT boot, seq FROM sighting"))
    finally:
        db.close()


def stored(chain: Chain) -> dict[tuple[str, int], Float32]:
    db = sqlite3.connect(f"file:{chain.journal}?mode=ro", uri=True)
    try:
        rows = db.execute("SELECT boot, seq, dim, body FROM sighting").fetchall()
    finally:
        db.close()
    return {(boot, seq): decode_sighting(body, dim).embedding for boot, seq, dim, body in rows}


@pytest.fixture
def key() -> X25519PrivateKey:
    return X25519PrivateKey.generate()


@pytest.fixture
def chain(make_chain: Callable[..., Chain], repository: Path, key: X25519PrivateKey) -> Chain:
    """Its device at cam1 seals, its server has the key; nothing of it is started."""
    made = make_chain(repository / "examples/clip", edge_options=("--camera.fps_max", "3"))
    seal = made.work / "authority" / "seal"
    seal.mkdir(parents=True)
    (seal / f"{key_name(key.public_key())}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public = made.work / "seal.pub"
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    with open(made.work / "server.toml", "a") as settings:
        settings.write(f"[authority]\nfolder = {q(made.work / 'authority')}\nsealed_only = true\n")
    path = made.work / "cam1.toml"
    path.write_text(path.read_text().replace("[spool]\n", f"[spool]\nsealed_to = {q(public)}\n"))
    assert "sealed_to" in path.read_text()
    return made


def test_its_disk_has_no_embedding_and_no_picture_and_its_spool_is_delivered_all_the_same(
    chain: Chain, key: X25519PrivateKey, tmp_path: Path
) -> None:
    # Nobody listens yet: all of it has to be kept.
    device = chain.start_edge("cam1")
    spool = chain.spool("cam1")
    end = time.monotonic() + 250
    while not (spool.exists() and len(spooled_or_none(spool)) >= 20):
        assert device.alive, device.tail()
        assert time.monotonic() < end, device.tail()
        time.sleep(0.2)
    chain.kill(device)
    disk = tmp_path / "disk"
    edge = [*(chain.work / "edge").iterdir(), *(chain.work / "runs" / "cam1").rglob("*.*")]
    assert len(edge) > 5
    assert [path for path in edge if path.stat().st_mode & 0o077] == []  # no other user's
    for name in ("edge", "runs", "logs"):
        shutil.copytree(chain.work / name, disk / name)
    shutil.copy(chain.work / "cam1.toml", disk)
    taken = spooled(disk / "edge" / "cam1.db")
    assert len(taken) >= 20
    with sqlite3.connect(disk / "edge" / "cam1.db") as db:
        assert db.execute("SELECT count(*) FROM picture").fetchone()[0] > 0
    db.close()

    chain.start_broker()
    chain.start_server()
    again = chain.start_edge("cam1", record=False)
    assert again.process.wait(250) == 0, again.tail()
    assert "remaining=0" in again.log.read_text()
    got = stored(chain)
    assert taken <= got.keys()
    boots = {boot for boot, _ in taken}
    assert len(boots) == 1
    assert boots < {boot for boot, _ in got}  # and what the second run saw itself
    assert "message set aside" not in (chain.work / "logs" / "server.log").read_text()

    mine = [embedding for name, embedding in got.items() if name in taken]
    content = files(disk)
    assert len(content) > 5
    for path, data in content.items():
        assert list(runs_of(data, mine)) == [], path
        assert JPEG not in data, path
    # What it recorded it recorded as sealed; who has the site's key reads it.
    record = disk / "runs" / "cam1"
    with pytest.raises(MessageError, match="sealed"):
        list(read_sightings(record))
    opener = Opener("demo", {key_name(key.public_key()): key}.get)
    said = {(b.boot, s.seq) for b in read_sightings(record, opener) for s in b.sightings}
    assert said <= taken
    assert said


def spooled_or_none(path: Path) -> set[tuple[str, int]]:
    try:
        return spooled(path)
    except sqlite3.OperationalError:  # its tables are being made
        return set()


def test_the_scan_finds_what_it_looks_for() -> None:
    dice = np.random.default_rng(1)
    vectors = [v / np.linalg.norm(v) for v in dice.normal(size=(3, 64)).astype(np.float32)]
    noise = dice.bytes(8_000)
    assert list(runs_of(noise, vectors)) == []
    kept = [np.frombuffer(embedding_bytes(v), "<f2").astype(np.float32) for v in vectors]
    for at in (0, 1, 6, 7, 8, 15):
        for first, form in ((0, "<f2"), (3, "<f2"), (0, "<f4"), (5, "<f4")):
            width = int(form[2])
            piece = kept[1].astype(form).tobytes()[first * width : first * width + 16]
            data = noise[: 500 + at] + piece + noise[600:]
            assert list(runs_of(data, kept)), (at, form)
