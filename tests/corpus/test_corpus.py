"""Every input that ever broke a decoder, against today's. README.md says how to add one."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.signature import Trust
from skyreid.contract import klv
from skyreid.contract.camera import read_poses
from skyreid.contract.errors import MessageError, SkyreidError
from skyreid.contract.picture import decode_picture_request
from skyreid.contract.receipt import decode_receipt
from skyreid.contract.recording import read_mot
from skyreid.contract.sighting import Ground
from skyreid.contract.site import Site, read_site
from skyreid.contract.traffic import read_traffic
from skyreid.edge.delivery.spool import Spool
from skyreid.edge.delivery.spool_file import read_stats
from skyreid.server.broker.decoding import Message, Sorted, sort_messages
from skyreid.server.devices import Devices
from skyreid.server.matching.matcher import Matcher
from skyreid.server.matching.options import MatchingOptions
from skyreid.server.store.beside import read_decisions
from skyreid.server.store.journal import Journal
from skyreid.server.traffic.replay import require_sendable, sightings_of

HERE = Path(__file__).parent
FILES = sorted(path for path in HERE.glob("*/*.*") if path.suffix != ".pyc")
NOW_NS = 1_700_000_001_000_000_000
"""When the messages of the corpus arrive: a second after their sightings were captured."""


def sort_one(channel: str, data: bytes) -> Sorted:
    """One message as the server sorts it, or the refusal that it would be set aside with."""
    user = {"boot": "b", "camera": "cam1", "track": "3", "seq": "9", "captured_at_ns": "12"}
    topic = f"skyreid/v1/plaza/dev/uav-1/{channel}"
    got = sort_messages([Message(topic, data, user, NOW_NS)], Site(id="plaza", pictures="always"))
    if got.refused:
        raise MessageError(got.refused[0].reason, got.refused[0].detail)
    return got


def sightings(data: bytes, folder: Path) -> None:
    """Stored, and matched with a crowd around it in the same moment."""
    got = sort_one("sightings", data)
    journal = Journal(folder / "journal.sqlite", "plaza", pictures_max_bytes=1)
    try:
        journal.store(got.sightings, got.heard)
        stored = list(journal.sightings_since(0))
    finally:
        journal.close()
    matcher = Matcher(MatchingOptions())
    for arrived in stored:
        matcher.add(arrived.device, arrived.boot, arrived.model_key, arrived.sighting)
        for n in range(12):
            place = Ground(n % 4, n // 4, 0.2, 0.0, 0.2)
            other = dataclasses.replace(arrived.sighting, track=n, camera=f"c{n % 2}", ground=place)
            matcher.add(f"d{n % 2}", "1-a", arrived.model_key, other)
    matcher.advance(None)


def said_of_itself(channel: str) -> Callable[[bytes, Path], None]:
    def replay(data: bytes, _: Path) -> None:
        import httpx
        from fastapi import FastAPI

        got = sort_one(channel, data)
        devices = Devices((), (), stall_s=5, now_s=0)
        for name, online in got.statuses:
            devices.status(name, online, 0)
        for name, birth in got.births:
            devices.birth(name, birth, 0)
        for name, health in got.healths:
            devices.health(name, health, 0)
        api = FastAPI()

        @api.get("/")
        def shown() -> dict[str, Any]:
            return {"devices": [device.to_json() for device in devices.by_id.values()]}

        async def ask() -> int:
            transport = httpx.ASGITransport(app=api)
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
                return (await client.get("/")).status_code

        assert asyncio.run(ask()) == 200  # as the page asks for it

    return replay


def picture(data: bytes, _: Path) -> None:
    assert sort_one("picture", data).pictures[0].picture.jpeg == data


def in_a_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], None]:
    def replay(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        read(folder / name)

    return replay


def in_a_bundle(name: str) -> Callable[[bytes, Path], None]:
    """The bytes in place of one file of the bundle in ``examples``, whose sums are made to fit."""

    def replay(data: bytes, folder: Path) -> None:
        bundle = folder / "bundle"
        shutil.copytree(HERE.parents[1] / "examples" / "bundle" / "vdt-tiny", bundle)
        (bundle / name).write_bytes(data)
        key = folder / "key.pem"
        if name.startswith("SHA256SUMS"):
            from skyreid.export.signing import make_keys

            make_keys(folder / "private.pem", key)
            open_bundle(bundle, Trust(keys=(key,)))
            return
        sums = (bundle / "SHA256SUMS").read_text().splitlines()
        others = [line for line in sums if not line.endswith(f"  {name}")]
        own = f"{hashlib.sha256(data).hexdigest()}  {name}"
        (bundle / "SHA256SUMS").write_text("\n".join([*others, own]) + "\n")
        open_bundle(bundle)

    return replay


def traffic(path: Path) -> None:
    """Read, and looked at as by a replay before it sends anything."""
    for message in read_traffic(path.parent):
        require_sendable(message, "plaza", path.parent)
        sightings_of(message)


def spool(path: Path) -> None:
    with pytest.raises(SkyreidError):
        read_stats(path)
    Spool(path).close()


def journal(path: Path) -> None:
    with pytest.raises(SkyreidError):
        read_decisions(path)
    Journal(path, "plaza", pictures_max_bytes=1).close()


DECODERS: dict[str, Callable[[bytes, Path], object]] = {
    "birth": said_of_itself("birth"),
    "health": said_of_itself("health"),
    "journal": in_a_file("journal.sqlite", journal),
    "klv": lambda data, _: klv.decode(data),
    "manifest": in_a_bundle("manifest.json"),
    "mot": in_a_file("cam1.txt", read_mot),
    "picture": picture,
    "picture-request": lambda data, _: decode_picture_request(data),
    "poses": in_a_file("calib.json", lambda path: read_poses(path, "cam1")),
    "receipt": lambda data, _: decode_receipt(data),
    "sightings": sightings,
    "signature": in_a_bundle("SHA256SUMS.sig"),
    "site": in_a_file("site.toml", read_site),
    "spool": in_a_file("spool.db", spool),
    "status": said_of_itself("status"),
    "sums": in_a_bundle("SHA256SUMS"),
    "traffic": in_a_file("traffic.bin", traffic),
}


@pytest.mark.parametrize("path", FILES, ids=[f"{p.parent.name}/{p.name}" for p in FILES])
def test_an_input_ends_as_its_name_says(path: Path, tmp_path: Path) -> None:
    decode, outcome = DECODERS[path.parent.name], path.name.split(".")[0]
    if outcome == "good":
        decode(path.read_bytes(), tmp_path)
        return
    with pytest.raises(SkyreidError) as caught:
        decode(path.read_bytes(), tmp_path)
    said = caught.value
    assert (said.reason if isinstance(said, MessageError) else "bad") == outcome
    assert len(str(said)) < 1000


def test_every_decoder_has_a_corpus() -> None:
    assert sorted({path.parent.name for path in FILES}) == sorted(DECODERS)
