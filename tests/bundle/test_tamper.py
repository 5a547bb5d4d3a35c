"""Whatever is changed in a bundle or an engine is refused by name, before anything reads it.

The bundle here has every file that a bundle can have, and is signed. What could be reached by bytes
of a stranger is set to fail: JSON, arrays, ONNX Runtime, TensorRT's deserialisation.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_gpu import FakeDriver, FakeTensorRT

from skyreid.bundle.archive import INT8_FOR_ENGINES, SUMS, Bundle, open_bundle, write_bundle
from skyreid.bundle.compiled import Machine
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.runner import Execution, start
from skyreid.bundle.signature import ANYONE, SIGNATURE, Trust, trusted
from skyreid.contract.errors import BundleError
from skyreid.contract.sighting import View
from skyreid.export.signing import make_keys, sign

RANGES = "int8-ranges.json"
DATA = (
    "golden/outputs.npz",
    "golden/pictures.npz",
    RANGES,
    "manifest.json",
    "model.fp16.onnx",
    "model.fp32.onnx",
    INT8_FOR_ENGINES,
    "model.int8.onnx",
    "parity.json",
)


class Parsed(Exception):
    """Something read what it should never have been given."""


@pytest.fixture
def whole(bundle: Bundle, tmp_path: Path) -> Bundle:
    """A bundle of all numeric formats, with ranges."""
    pictures, outputs = bundle.golden()
    model = bundle.model("fp32")
    manifest = bundle.manifest.model_copy(update={"formats": ("fp32", "fp16", "int8")})
    ranges = {"ranges": {"first": 2.5, "second": 11.0}}
    return write_bundle(
        tmp_path / "whole",
        manifest,
        {"fp32": model, "fp16": model, "int8": model},
        golden_pictures=pictures,
        golden_outputs=outputs,
        parity={},
        extra={INT8_FOR_ENGINES: model, RANGES: json.dumps(ranges, indent=1).encode()},
    )


@pytest.fixture
def ours(whole: Bundle, tmp_path: Path) -> Trust:
    """Trust in the key that signed the bundle."""
    make_keys(tmp_path / "ours.key", tmp_path / "ours.pub")
    sign(whole.path, tmp_path / "ours.key")
    return trusted([tmp_path / "ours.pub"])


@pytest.fixture
def nothing_is_read(monkeypatch: pytest.MonkeyPatch, whole: Bundle, ours: Trust) -> None:
    def read(*arguments: object, **named: object) -> None:
        raise Parsed

    monkeypatch.setattr(json, "loads", read)
    monkeypatch.setattr(np.lib.format, "read_array", read)
    monkeypatch.setattr(onnxruntime, "InferenceSession", read)


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


def add_up(bundle: Bundle) -> None:
    """Make the sums fit what the files are now, as somebody would who knows how."""
    lines = [
        f"{hashlib.sha256((bundle.path / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(bundle.files)
    ]
    (bundle.path / SUMS).write_text("".join(lines))


def swap_ranges(bundle: Bundle) -> None:
    text = (bundle.path / RANGES).read_text()
    swapped = text.replace("2.5", "x").replace("11.0", "2.5").replace("x", "11.0")
    assert len(swapped) == len(text)
    assert swapped != text
    (bundle.path / RANGES).write_text(swapped)


def test_the_list_is_complete_and_the_trap_springs(
    whole: Bundle, ours: Trust, nothing_is_read: None
) -> None:
    found = {p.relative_to(whole.path).as_posix() for p in whole.path.rglob("*") if p.is_file()}
    assert found == {*DATA, SUMS, SIGNATURE}
    with pytest.raises(Parsed):  # an untouched bundle is read
        open_bundle(whole.path, ours)


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("name", DATA)
def test_a_flipped_byte_of_a_file_is_refused_by_its_name(
    whole: Bundle, ours: Trust, nothing_is_read: None, name: str, trusting: bool
) -> None:
    path = whole.path / name
    good = path.read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        flip(path, place)
        with pytest.raises(BundleError, match=f"{name} does not have the digest that {SUMS} says"):
            open_bundle(whole.path, ours if trusting else ANYONE)
        path.write_bytes(good)


def test_a_flipped_byte_anywhere_in_the_sums_is_refused(
    whole: Bundle, ours: Trust, nothing_is_read: None
) -> None:
    path = whole.path / SUMS
    good = path.read_bytes()
    ends = [place for place, byte in enumerate(good) if byte == ord("\n")]
    for place in sorted({*range(0, len(good), 7), *ends, *(end - 1 for end in ends)}):
        flip(path, place)
        with pytest.raises(BundleError, match=f"{SUMS} (says|has a line)|(not|is) listed in"):
            open_bundle(whole.path)
        with pytest.raises(BundleError, match="is not of this SHA256SUMS; it was changed after"):
            open_bundle(whole.path, ours)
        path.write_bytes(good)


def test_a_flipped_byte_anywhere_in_the_signature_is_refused(
    whole: Bundle, ours: Trust, nothing_is_read: None
) -> None:
    path = whole.path / SIGNATURE
    good = path.read_bytes()
    said = f"{SIGNATURE} is damaged|is signed by key .* trusted are|is not of this SHA256SUMS"
    for place in range(len(good)):
        flip(path, place)
        with pytest.raises(BundleError, match=said):
            open_bundle(whole.path, ours)
        path.write_bytes(good)


def test_a_flipped_byte_anywhere_in_a_zip_changes_nothing_or_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    archive = Path(shutil.make_archive(str(tmp_path / "tiny"), "zip", bundle.path))
    good = archive.read_bytes()
    refused = 0
    for place in range(0, len(good), 7):
        for bit in (1, 0x80):
            data = bytearray(good)
            data[place] ^= bit
            archive.write_bytes(bytes(data))
            try:
                opened = open_bundle(archive)
            except BundleError:
                refused += 1
                continue
            assert opened.sha256 == bundle.sha256  # a time stamp, say
            assert opened.files == bundle.files
    assert refused > len(good) / 7


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (swap_ranges, f"{RANGES} does not have the digest"),
        (lambda b: (swap_ranges(b), add_up(b)), "is not of this SHA256SUMS; it was changed after"),
        (
            lambda b: (flip(b.path / "model.int8.onnx", 99), add_up(b)),
            "is not of this SHA256SUMS; it was changed after",
        ),
        (lambda b: (b.path / SIGNATURE).unlink(), "is not signed and trust.require_signature"),
        (lambda b: sign_as_somebody(b), "is signed by key [0-9a-f]{16}, trusted are [0-9a-f]{16}"),
    ],
    ids=["ranges", "ranges and sums", "model and sums", "no signature", "another key"],
)
def test_a_device_that_asks_for_a_signature_gives_each_its_own_message(
    whole: Bundle,
    ours: Trust,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    change: Callable[[Bundle], object],
    said: str,
) -> None:
    change(whole)
    request.getfixturevalue("nothing_is_read")
    with pytest.raises(BundleError, match=said):
        Embedder([whole.path], view=View.AERIAL, trust=ours)


def sign_as_somebody(bundle: Bundle) -> None:
    folder = bundle.path.parent
    make_keys(folder / "theirs.key", folder / "theirs.pub")
    sign(bundle.path, folder / "theirs.key")


def test_ranges_of_another_bundle_are_refused(
    whole: Bundle, ours: Trust, nothing_is_read: None
) -> None:
    """They are well-formed, and of the same length even."""
    text = (whole.path / RANGES).read_text().replace("2.5", "3.5")
    (whole.path / RANGES).write_text(text)
    with pytest.raises(BundleError, match=f"{RANGES} does not have the digest"):
        open_bundle(whole.path)


class Board:
    """A device whose TensorRT remembers which plans it was given to load."""

    def __init__(self, cache: Path, version: str) -> None:
        self.cache = cache
        self.trt = FakeTensorRT(version)
        self.given: list[bytes] = []
        load = self.trt._deserialize

        def remember(plan: bytes) -> object:
            self.given.append(plan)
            return load(plan)

        self.trt._deserialize = remember

    def start(self, bundle: Bundle) -> None:
        machine = Machine("tensorrt", self.trt, "sm87-orin", self._open)
        start(bundle, execution=Execution("tensorrt", self.cache, machine=machine)).close()

    def _open(self) -> FakeDriver:
        self.trt.driver = FakeDriver()
        return self.trt.driver


def test_a_plan_of_another_tensorrt_is_never_loaded_under_whatever_name(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = Board(tmp_path / "old", "10.3.0")
    old.start(bundle)
    new = Board(tmp_path / "new", "10.16.2")
    new.start(bundle)
    (foreign,) = old.cache.glob("*.plan")
    (own,) = new.cache.glob("*.plan")
    built_here = own.read_bytes()
    assert foreign.read_bytes() != built_here
    # The old plan and its record, put where the new TensorRT looks.
    own.write_bytes(foreign.read_bytes())
    own.with_suffix(".json").write_bytes(foreign.with_suffix(".json").read_bytes())
    caplog.set_level("INFO")
    new.start(bundle)
    assert "is foreign: it was built by TensorRT 10.3.0, needed is 10.16.2" in caplog.text
    assert set(new.given) == {built_here}


def test_a_flipped_byte_anywhere_in_a_plan_or_its_record_never_loads_another_plan(
    bundle: Bundle, tmp_path: Path
) -> None:
    board = Board(tmp_path / "engines", "10.3.0")
    board.start(bundle)
    (plan,) = board.cache.glob("*.plan")
    good = {path: path.read_bytes() for path in (plan, plan.with_suffix(".json"))}
    for path, data in good.items():
        for place in range(0, len(data), 17):
            flip(path, place)
            board.start(bundle)
            for again, content in good.items():
                again.write_bytes(content)
    assert set(board.given) == {good[plan]}
    # Every flip of the plan had it built again; a flip of a space in the record need not.
    assert board.trt.built > 1 + len(good[plan]) // 17
