"""Detectors of the catalogue: found by name, held against their digests, wrapped and proved."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from file_server import Server, cut

from skyreid.bundle.archive import open_bundle
from skyreid.bundle.detector import open_detector
from skyreid.contract.errors import GateError
from skyreid.export import catalogue, drawn, proof, wrap
from skyreid.export.__main__ import main
from skyreid.export.catalogue import ENTRIES, FREE, Entry, Pinned, entry
from skyreid.export.declared import CHOICES
from skyreid.export.proof import Pictures


@pytest.fixture(scope="session")
def drawn_pictures() -> Pictures:
    return drawn.draw()


@pytest.fixture
def drawn_once(drawn_pictures: Pictures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawn, "draw", lambda: drawn_pictures)


@pytest.fixture
def nano(shared: Path) -> Path:
    return shared / "media" / "yolox_nano.onnx"


@pytest.fixture
def server(tmp_path: Path, nano: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves the copy of YOLOX-nano, as the address of the catalogue's."""
    (tmp_path / "tls").mkdir()
    made = Server(tmp_path / "tls")
    made.data = nano.read_bytes()
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    serve(monkeypatch, replace(entry("yolox-nano"), files=(pinned(made),)))
    yield made
    made.close()


def pinned(server: Server) -> Pinned:
    digest = hashlib.sha256(server.data).hexdigest()
    return Pinned(server.address, digest, len(server.data), "a test")


def serve(monkeypatch: pytest.MonkeyPatch, *entries: Entry) -> None:
    monkeypatch.setattr(catalogue, "ENTRIES", entries)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of the error."""
    lines = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error (")]
    assert len(lines) == 1
    return lines[0]


def test_every_entry_is_pinned_found_somewhere_and_can_be_declared() -> None:
    assert len({one.name for one in ENTRIES}) == len(ENTRIES) >= 5
    digests = [file.sha256 for one in ENTRIES for file in one.files]
    assert len(set(digests)) == len(digests)
    for one in ENTRIES:
        assert one.family in wrap.FOREIGN
        assert one.trained_on
        assert one.licence_note
        declared = wrap.FOREIGN[one.family].declared.changed(**one.said)
        assert all(getattr(declared, word) in CHOICES[word] for word in CHOICES)
        for file in one.files:
            assert file.address.startswith("https://")
            assert "/main/" not in file.address
            assert "/master/" not in file.address
            assert re.fullmatch(r"[0-9a-f]{64}", file.sha256)
            assert file.size > 1_000_000
            assert file.found_in


def test_what_is_not_free_needs_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [one for one in ENTRIES if one.needs_acceptance]
    assert asked == [one for one in ENTRIES if one.licence not in FREE]
    assert any("AGPL" in one.licence for one in asked)
    for one in asked:
        assert main(["get", one.name, "-o", str(tmp_path / "out")]) == 2
        assert "--accept-licence says that you accept that" in said(capsys)
        file = tmp_path / "x.onnx"
        file.write_bytes(b"x")
        command = ["get", one.name, "-o", str(tmp_path / "out"), "--file", str(file)]
        assert main([*command, "--accept-licence"]) == 2
        assert "x.onnx is 1 bytes" in said(capsys)  # accepted, and looked at


def test_the_catalogue_is_a_table_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["catalogue"]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "family", "input"]
    assert [row.split()[0] for row in rows] == [one.name for one in ENTRIES]
    assert main(["catalogue", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts[0]["files"][0]["sha256"] == ENTRIES[0].files[0].sha256


@pytest.mark.usefixtures("drawn_once")
def test_a_name_becomes_a_bundle_that_finds_people(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.behave = [cut(1_000_000, server.data)]
    out = tmp_path / "yolox-nano"
    assert main(["get", "yolox-nano", "-o", str(out), "--formats", "fp32,fp16"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{out}\n"
    assert captured.err.startswith("yolox-nano: Megvii")
    assert "licence Apache-2.0" in captured.err
    assert "trained on COCO" in captured.err
    assert server.asked == [None, "bytes=1000000-"]
    manifest = open_bundle(out).manifest
    assert (manifest.name, manifest.licence) == ("yolox-nano", "Apache-2.0")
    assert manifest.formats == ("fp32", "fp16")
    assert server.address in manifest.notes
    assert "trained on COCO" in manifest.notes
    people = json.loads((out / "parity.json").read_text())["gates"]["people"]
    assert people["recall"] > 0.6
    assert people["precision"] > 0.6

    assert main(["get", "yolox-nano", "-o", str(out)]) == 2
    assert "exists already" in said(capsys)
    assert len(server.asked) == 2  # refused before anything was fetched


def test_not_one_byte_of_another_file_is_read(
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*args: object) -> None:
        raise AssertionError("a file was parsed whose digest is wrong")

    monkeypatch.setattr(wrap, "read", read)
    server.data = server.data[:-1] + b"x"
    assert main(["get", "yolox-nano", "-o", str(tmp_path / "out")]) == 2
    assert "nothing of it was read" in said(capsys)
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "cache" / "skyreid" / "models").iterdir()) == []


def test_a_file_that_was_fetched_elsewhere_needs_no_internet(
    nano: Path, tmp_path: Path, media_people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The copy here is another export of the same weights than the makers' release."""
    out = tmp_path / "out"
    command = ["get", "yolox-nano", "--golden", str(media_people), "-o", str(out)]
    assert main([*command, "--file", str(nano)]) == 0
    assert "Kazuhito00" in open_bundle(out).manifest.notes
    assert len(open_detector(out).find(np.full((480, 640, 3), 114, np.uint8))) == 0
    shutil.rmtree(out)
    capsys.readouterr()

    other = tmp_path / "other.onnx"
    other.write_bytes(nano.read_bytes()[:-1])
    assert main([*command, "--file", str(other)]) == 2
    expected = "other.onnx is 3,660,091 bytes, expected are 3,659,407 or 3,660,092: another"
    assert expected in said(capsys)
    other.write_bytes(nano.read_bytes()[:-1] + b"x")  # of the second export's size
    assert main([*command, "--file", str(other)]) == 2
    why = said(capsys)
    assert f"expected is {entry('yolox-nano').files[1].sha256}: another file, nothing" in why
    assert main([*command, "--file", str(tmp_path / "absent")]) == 2
    assert "absent: No such file" in said(capsys)
    assert main(["get", "yolox-mega", "-o", str(out)]) == 2
    assert "not in the catalogue; known are yolox-nano" in said(capsys)
    assert not out.exists()


def test_drawn_people_stand_where_they_are_said_to(drawn_pictures: Pictures) -> None:
    assert drawn_pictures.truth is not None
    assert len(drawn_pictures.originals) == len(drawn_pictures.truth) == 8
    counts = sum(int(truth.counts.sum()) for truth in drawn_pictures.truth)
    assert counts >= 50
    for picture, truth in zip(drawn_pictures.originals, drawn_pictures.truth, strict=True):
        assert picture.dtype == np.uint8
        height, width = picture.shape[:2]
        assert (truth.boxes[:, 2:] <= (width, height)).all()
        assert (truth.boxes[:, 2:] > truth.boxes[:, :2]).all()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"channels": "rgb"}, r"fed otherwise than declared, with --channels bgr: declare that"),
        ({"range": "1"}, "in 0 of the 8 pictures of the drawn pictures"),
        ({"person": 2}, "finds (somebody|0%|[0-9]%)"),
    ],
)
def test_a_real_file_that_is_declared_wrongly_is_found_out(
    said: dict[str, str | int],
    why: str,
    nano: Path,
    tmp_path: Path,
    drawn_pictures: Pictures,
) -> None:
    with pytest.raises(GateError, match=why) as caught:
        wrap.wrap(
            nano,
            tmp_path / "out",
            family="yolox",
            pictures=lambda: drawn_pictures,
            name="x",
            said=said,
            licence="Apache-2.0",
        )
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_boxes_in_a_wrong_place_are_found_out(drawn_pictures: Pictures) -> None:
    """What no picture without truth can show: sure people of the right size, beside themselves."""
    assert drawn_pictures.truth is not None
    right = [proof.Detections(t.boxes, np.ones(len(t.boxes), "f4")) for t in drawn_pictures.truth]
    facts = proof.require_people("x", right, drawn_pictures)
    assert facts["recall"] == 1
    beside = [proof.Detections(one.boxes * 0.7, one.scores) for one in right]
    with pytest.raises(GateError, match="of what it finds are people"):
        proof.require_people("x", beside, drawn_pictures)
