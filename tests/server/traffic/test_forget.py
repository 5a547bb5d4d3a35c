"""The erased are taken out of recordings that are sealed, and nobody else is."""

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from skyreid.contract.identity_event import TrackKey
from skyreid.contract.picture import Picture, picture_properties
from skyreid.contract.receipt import batch_properties
from skyreid.contract.recording import Recorder, RunInfo, read_mot
from skyreid.contract.sealed import Opener, Sealer, about_picture, about_sighting, key_name
from skyreid.contract.sighting_wire import decode_usable, encode_raw_batch, encode_sighting
from skyreid.contract.traffic import Recorded, TrafficWriter, read_traffic
from skyreid.server.traffic.forget import forget_in

JPEG = b"\xff\xd8\xff\xd9"


def test_one_erasure_does_not_take_everybody_out_of_a_sealed_recording(
    make: Any, tmp_path: Path
) -> None:
    key = X25519PrivateKey.generate()
    opener = Opener("plaza", {key_name(key.public_key()): key}.get)
    sealer = Sealer(key.public_key(), site="plaza", device="uav1")
    rows = [
        sealer.seal(encode_sighting(each), about_sighting("1-abcd", each.seq), each.seq)
        for each in (make.sighting(n, track=n) for n in (1, 2))
    ]
    shown = [("1-abcd", "cam1", n, n, make.start_ns) for n in (1, 2)]
    pictures = [Picture(*k, sealer.seal(JPEG, about_picture(*k), k[3])) for k in shown]
    damaged = rows[1][:-1] + bytes([rows[1][-1] ^ 1])
    named, more = batch_properties("1-abcd", [1, 2]), batch_properties("1-abcd", [3])
    more["more"] = "stays"
    topic = "skyreid/v1/plaza/dev/uav1"
    with TrafficWriter(tmp_path) as writer:
        for message in (
            Recorded(1, f"{topic}/sightings", encode_raw_batch(make.batch([]), rows), named),
            *(Recorded(2, f"{topic}/picture", p.jpeg, picture_properties(p)) for p in pictures),
            Recorded(3, f"{topic}/sightings", encode_raw_batch(make.batch([]), [damaged]), more),
        ):
            writer.add(TrafficWriter.encode(message))
    erased = {TrackKey("uav1", "1-abcd", "cam1", 1)}
    assert forget_in(tmp_path, erased, opener) == 3  # what does not open may be hers
    batch, picture, nothing = read_traffic(tmp_path)
    assert batch.properties == batch_properties("1-abcd", [2])  # a replay waits for no other
    assert nothing.properties == {"more": "stays"}
    left = decode_usable(batch.payload, site="plaza", device="uav1", opener=opener)
    assert ([s.track for s in left.batch.sightings], left.came) == ([2], (rows[1],))
    assert picture.payload == pictures[1].jpeg
    assert decode_usable(nothing.payload, site="plaza", device="uav1").batch.sightings == ()
    assert forget_in(tmp_path, {TrackKey("uav1", "1-abcd", "cam1", 2)}) == 2  # without the keys


def test_an_erased_tracklet_stays_nowhere_in_a_devices_recording_nor_is_it_opened_to_others(
    make: Any, tmp_path: Path
) -> None:
    info = RunInfo(
        site="plaza", device="uav1", boot="1-abcd", camera="cam1",
        view="aerial", source="x", start_ns=1, model_key="k",
    )  # fmt: skip
    place = tmp_path / "run"
    with Recorder(place, info) as recorder:
        for frame in (1, 2):
            rows = [(track, [0.0, 0.0, 9.0, 9.0], 0.5) for track in (1, 11, 2)]
            recorder.tracks(frame, rows)
        recorder.sighting(make.payload([make.sighting(1, track=1)]))
    tracks = place / "tracks" / "cam1.txt"
    for path in (tracks, place / "traffic.bin"):
        path.chmod(0o600)
    assert forget_in(place, {TrackKey("uav1", "0-abcd", "cam1", 1)}) == 0
    assert forget_in(place, {TrackKey("uav1", "1-abcd", "cam1", 1)}) == 1 + 2
    assert read_mot(tracks).identity.tolist() == [11, 2, 11, 2]
    assert {path.stat().st_mode & 0o777 for path in (tracks, place / "traffic.bin")} == {0o600}
