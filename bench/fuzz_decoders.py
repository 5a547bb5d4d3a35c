"""What is fuzzed: every decoder of what strangers write, with good and bad inputs to begin with."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.arrays import read_arrays
from skyreid.bundle.external_data import require_own_data
from skyreid.bundle.manifest import Manifest
from skyreid.contract import klv
from skyreid.contract.camera import read_poses
from skyreid.contract.device import decode_birth, decode_health
from skyreid.contract.errors import MessageError
from skyreid.contract.picture import decode_picture_request
from skyreid.contract.receipt import decode_receipt
from skyreid.contract.recording import read_mot, read_run, read_sightings
from skyreid.contract.sealed import Opener, Sealer, about_picture, about_sighting, key_name
from skyreid.contract.sighting import Clock
from skyreid.contract.sighting_wire import decode_usable, encode_raw_batch, encode_sighting
from skyreid.contract.site import Origin, Site, read_site
from skyreid.contract.telemetry import camera_of
from skyreid.contract.traffic import TRAFFIC, Recorded, TrafficWriter, read_traffic
from skyreid.edge.config import read_settings as read_edge_settings
from skyreid.edge.telemetry.csv_feed import CsvFeed
from skyreid.edge.telemetry.options import TelemetryOptions
from skyreid.edge.video.avi import wrong_index
from skyreid.edge.video.continuity import Packets
from skyreid.edge.video.frame import Frame
from skyreid.edge.video.mp4 import read_film
from skyreid.edge.video.mpegts import read_programs
from skyreid.server.broker.decoding import CLEAR, DEFECT, Message, Sorted, sort_messages
from skyreid.server.broker.opening import Opening
from skyreid.server.config import read_settings as read_server_settings
from skyreid.server.traffic.replay import require_sendable, sightings_of

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "corpus"

Decode = Callable[[bytes], object]


def _batch(data: bytes) -> None:
    for sighting in decode_usable(data, site="plaza", device="uav-1").batch.sightings:
        encode_sighting(sighting)


_ORIGIN = Origin(latitude_deg=48, longitude_deg=11, ellipsoid_height_m=500)


_TELEMETRY = klv.KlvPacket(
    time_ns=10**18,
    platform_heading_deg=10.0,
    platform_pitch_deg=1.0,
    platform_roll_deg=1.0,
    sensor_latitude_deg=48.0,
    sensor_longitude_deg=11.0,
    sensor_ellipsoid_m=600.0,
    horizontal_fov_deg=60.0,
    vertical_fov_deg=40.0,
    sensor_azimuth_deg=5.0,
    sensor_elevation_deg=-30.0,
    sensor_roll_deg=0.0,
)


def _klv(data: bytes) -> None:
    """With the checksum that belongs to the bytes for two of three, so that more is reached."""
    if len(data) > 20 and sum(data) % 3:
        data = data[:-2] + struct.pack(">H", klv.checksum(data[:-2]))
    camera = camera_of(klv.decode(data), _ORIGIN, 1920, 1080)
    assert np.isfinite(camera.matrix).all()
    assert np.isfinite(camera.translation).all()
    camera.ground(900, 900, sigma_px=2, sigma_m=1, range_max_m=500)


def _arrives(channel: str, data: bytes, user: dict[str, str], opening: Opening = CLEAR) -> Sorted:
    """A message at the server, which raises for nothing: what it counts as its defect is a find."""
    topic = f"skyreid/v1/plaza/dev/uav-1/{channel}"
    message = Message(topic, data, user, 1_700_000_001_000_000_000)
    got = sort_messages([message], Site(id="plaza", pictures="always"), None, opening)
    assert all(refused.reason != DEFECT for refused in got.refused), got.refused[0].detail
    return got


def _message(channel: str) -> Decode:
    def decode(data: bytes) -> None:
        got = _arrives(channel, data, _PICTURE)
        for _, said in (*got.births, *got.healths):
            json.dumps(said.model_dump(mode="json") if said else None, ensure_ascii=False).encode()

    return decode


def _sealed(payload: Callable[[bytes], bytes], channel: str, **user: str) -> Decode:
    """What somebody with the site's public key sends: of two of three the seal fits the bytes.

    What does not open ends at its tag; behind it lies what only a device could have sealed.
    """
    opening = Opening(Opener("plaza", _KEYS.get))

    def decode(data: bytes) -> None:
        got = _arrives(channel, payload(data) if sum(data) % 3 else data, user, opening)
        if got.refused:
            raise MessageError(got.refused[0].reason, got.refused[0].detail)

    return decode


_KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
_KEYS = {key_name(_KEY.public_key()): _KEY}
_SEALER = Sealer(_KEY.public_key(), site="plaza", device="uav-1")
_PICTURE = {"boot": "b", "camera": "cam1", "track": "3", "seq": "9", "captured_at_ns": "12"}


def _sealed_batch(data: bytes) -> bytes:
    """One sealed sighting, whose plain bytes are ``data``."""
    whole = (CORPUS / "sightings" / "good.two-sightings.bin").read_bytes()
    batch = decode_usable(whole, site="plaza", device="uav-1").batch
    record = _SEALER.seal(data, about_sighting(batch.boot, 1), 1)
    return encode_raw_batch(batch, [record])


def _sealed_picture(data: bytes) -> bytes:
    return _SEALER.seal(data, about_picture("b", "cam1", 3, 9, 12), 9)


def _in_a_file(folder: Path, name: str, read: Callable[[Path], object]) -> Decode:
    path = folder / name

    def decode(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return decode


def _poses(path: Path) -> None:
    camera = read_poses(path, "cam1").at(1.0)
    camera.ground(9, 9, sigma_px=1, sigma_m=1, range_max_m=100)


def _recording(folder: Path) -> Decode:
    info = {"site": "plaza", "device": "uav-1", "boot": "1-aa", "camera": "cam1", "view": "aerial"}
    rest = {"source": "x", "start_ns": 1, "model_key": "k", "bundles": ["0"]}
    (folder / "run.json").write_text(json.dumps({**info, **rest}))

    def decode(data: bytes) -> None:
        (folder / "sightings.bin").write_bytes(data)
        list(read_sightings(folder))

    return decode


def _traffic(folder: Path) -> Decode:
    """With the checksum that belongs to the first message for two of three, as for KLV."""
    start, sizes = len(b"skyreid traffic 1\n"), struct.Struct("<IqI")

    def decode(data: bytes) -> None:
        if len(data) > start + 4 + sizes.size and sum(data) % 3:
            header, _, payload = sizes.unpack_from(data, start + 4)
            whole = data[start + 4 : start + 4 + sizes.size + header + payload]
            data = data[:start] + struct.pack("<I", zlib.crc32(whole)) + data[start + 4 :]
        (folder / TRAFFIC).write_bytes(data)
        for message in read_traffic(folder):
            require_sendable(message, "plaza", folder)
            sightings_of(message)

    return decode


def _recorded(folder: Path, channel: str, payload: bytes, **user: str) -> bytes:
    """A recording of one message."""
    message = Recorded(10**18, f"skyreid/v1/plaza/dev/uav-1/{channel}", payload, user)
    with TrafficWriter(folder) as writer:
        writer.add(TrafficWriter.encode(message))
    return (folder / TRAFFIC).read_bytes()


def _run_json(folder: Path) -> Decode:
    folder = folder / "run"
    folder.mkdir()

    def decode(data: bytes) -> None:
        (folder / "run.json").write_bytes(data)
        read_run(folder)

    return decode


def _video(path: Path) -> None:
    """What is read of a video's own bytes, beside GStreamer."""
    wrong_index(path)
    read_film(path)
    read_programs(path)


def _transport(data: bytes) -> None:
    """Packets of a stream in pieces, and what is said of the pictures in them."""
    packets = Packets()
    for at in range(0, len(data), 300):
        for pid in packets.missing(data[at : at + 300]):
            packets.state(pid, at)


def _avi() -> bytes:
    chunks = b"00dc" + struct.pack("<I", 4) + b"abcd" + b"LIST" + struct.pack("<I", 16) + b"rec "
    chunks += b"00db" + struct.pack("<I", 3) + b"abc\0"
    index = struct.pack("<4sIII4sIII", b"00dc", 16, 4, 4, b"00db", 16, 28, 3)
    movi = b"LIST" + struct.pack("<I", len(chunks) + 4) + b"movi" + chunks
    out = b"AVI LIST\4\0\0\0hdrl" + movi + b"idx1" + struct.pack("<I", len(index)) + index
    return b"RIFF" + struct.pack("<I", len(out)) + out


def _flight(path: Path) -> None:
    options = TelemetryOptions(source="flight.csv", fov_deg=60)
    feed = CsvFeed(path, _ORIGIN, options)
    for _, model in feed.take(Frame(1, 1 << 62, Clock.FILE, 0, 640, 360)):
        assert np.isfinite(model.matrix).all()
        assert np.isfinite(model.translation).all()


_FLIGHT = b"""time_ns,latitude_deg,longitude_deg,height_msl_m,yaw_deg,pitch_deg,note
1800000000000000000,48.0001,11.0001,520.5,12.5,-45,"a, b"
1800000000100000000,48.0002,11.0001,520.5,12.5,-45,
"""


def _manifest(data: bytes) -> None:
    Manifest.model_validate_json(data)


def _seeds(*folders: str) -> list[bytes]:
    """What is good as often as what is not: a change of what is refused is mostly refused too."""
    good: list[bytes] = []
    bad: list[bytes] = []
    for name in folders:
        for path in sorted((CORPUS / name).iterdir()):
            (good if path.name.startswith("good.") else bad).append(path.read_bytes())
    bad = [data for data in bad if len(data) < 5000]
    return good * max(1, len(bad) // len(good)) + bad if good else bad


def _npz() -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, pictures=np.zeros((2, 4, 4, 3), np.uint8))
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (("manifest.json", b"{}"), ("a", b"x"), ("SHA256SUMS", b"")):
            archive.writestr(name, data)
    return out.getvalue()


def _packets() -> list[bytes]:
    """A film's boxes, and packets of a transport stream."""
    packets = b"".join(bytes([0x47, 0x41, 0, 0x10 | k % 16]) + bytes(184) for k in range(12))
    sizes = struct.pack(">I4sI4s", 40, b"moov", 32, b"mvhd") + bytes(24)
    return [packets, struct.pack(">I4s", 16, b"ftyp") + b"isom\0\0\0\0" + sizes]


def decoders(folder: Path) -> dict[str, tuple[Decode, list[bytes]]]:
    """Every decoder by name, with its seeds; files are written into `folder`."""
    model = (CORPUS.parent / "upgrade" / "0.1.0" / "bundle" / "model.fp32.onnx").read_bytes()
    batch = (CORPUS / "sightings" / "good.two-sightings.bin").read_bytes()
    sealed = _sealed_batch(decode_usable(batch, site="plaza", device="uav-1").raw[0])
    run = (CORPUS.parent / "upgrade" / "0.1.0" / "recording" / "run.json").read_bytes()
    manifest = (ROOT / "examples" / "bundle" / "vdt-tiny" / "manifest.json").read_bytes()
    edge = (ROOT / "edge" / "edge.example.toml").read_bytes()
    server = (ROOT / "server" / "server.example.toml").read_bytes()
    return {
        "batch": (_batch, _seeds("sightings")),
        "sightings": (_message("sightings"), _seeds("sightings")),
        "receipt": (decode_receipt, _seeds("receipt")),
        "birth": (decode_birth, _seeds("birth")),
        "health": (decode_health, _seeds("health")),
        "picture-request": (decode_picture_request, _seeds("picture-request")),
        "birth message": (_message("birth"), _seeds("birth")),
        "health message": (_message("health"), _seeds("health")),
        "status": (_message("status"), _seeds("status")),
        "picture": (_message("picture"), _seeds("picture")),
        "sealed sightings": (
            _sealed(_sealed_batch, "sightings"),
            [*decode_usable(batch, site="plaza", device="uav-1").raw, sealed],
        ),
        "sealed picture": (
            _sealed(_sealed_picture, "picture", schema_version="2", **_PICTURE),
            _seeds("picture"),
        ),
        "klv": (_klv, [klv.encode(_TELEMETRY)] * 30 + _seeds("klv")),
        "poses": (_in_a_file(folder, "calib.json", _poses), _seeds("poses")),
        "mot": (_in_a_file(folder, "cam1.txt", read_mot), _seeds("mot")),
        "site": (_in_a_file(folder, "site.toml", read_site), _seeds("site")),
        "recording": (_recording(folder), [struct.pack("<I", len(batch)) + batch]),
        "run.json": (_run_json(folder), [run]),
        "traffic": (
            _traffic(folder),
            [
                _recorded(folder / "a", "status", b"online"),
                _recorded(folder / "b", "sightings", batch),
                _recorded(folder / "c", "sightings", b"", boot="1-aa", seqs="4-9,12"),
                *_seeds("traffic"),
            ],
        ),
        "manifest": (_manifest, [manifest] * 20 + _seeds("manifest")),
        "npz": (lambda data: read_arrays(data, "it"), [_npz()]),
        "onnx": (lambda data: require_own_data(data, "it"), [model]),
        "video": (_in_a_file(folder, "v.avi", _video), [_avi(), *_packets()]),
        "transport packets": (_transport, _packets()),
        "flight": (_in_a_file(folder, "flight.csv", _flight), [_FLIGHT]),
        "zip": (_in_a_file(folder, "bundle.zip", open_bundle), [_zip()]),
        "edge settings": (
            _in_a_file(folder, "edge.toml", lambda p: read_edge_settings(p, [], verb="run")),
            [edge],
        ),
        "server settings": (
            _in_a_file(folder, "server.toml", lambda p: read_server_settings(p, [], verb="run")),
            [server],
        ),
    }
