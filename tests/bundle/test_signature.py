"""A signature says who made a bundle; what is not signed as asked is refused before it is read."""

import base64
import shutil
from pathlib import Path

import pytest

from skyreid.bundle.archive import SUMS, Bundle, open_bundle
from skyreid.bundle.embedder import Embedder
from skyreid.bundle.signature import SIGNATURE, Trust, trusted
from skyreid.contract.errors import BundleError, InputError
from skyreid.contract.sighting import View
from skyreid.export.signing import make_keys, sign


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    make_keys(tmp_path / "release.key", tmp_path / "release.pub")
    return tmp_path / "release.key", tmp_path / "release.pub"


def test_a_signed_bundle_opens_and_says_by_whom(bundle: Bundle, keys: tuple[Path, Path]) -> None:
    private, public = keys
    identity = sign(bundle.path, private)
    opened = open_bundle(bundle.path, trusted([public]))
    assert opened.signed_by == identity
    assert len(identity) == 16
    # The signature is beside the bundle, not part of it.
    assert opened.sha256 == bundle.sha256
    assert SIGNATURE not in opened.files
    archive = shutil.make_archive(str(bundle.path), "zip", bundle.path)
    assert open_bundle(Path(archive), trusted([public])).signed_by == identity


def test_the_private_key_is_readable_by_its_owner_only(keys: tuple[Path, Path]) -> None:
    assert keys[0].stat().st_mode & 0o777 == 0o600


def test_a_key_is_never_overwritten(keys: tuple[Path, Path], tmp_path: Path) -> None:
    before = keys[0].read_bytes()
    with pytest.raises(InputError, match="exists already"):
        make_keys(keys[0], tmp_path / "other.pub")
    assert keys[0].read_bytes() == before
    assert not (tmp_path / "other.pub").exists()


def test_an_unsigned_bundle_is_refused_only_where_a_signature_is_required(
    bundle: Bundle, keys: tuple[Path, Path]
) -> None:
    assert open_bundle(bundle.path, Trust(keys=(keys[1],))).signed_by is None
    with pytest.raises(BundleError, match="not signed"):
        open_bundle(bundle.path, trusted([keys[1]]))


def test_another_key_is_named_and_refused_even_where_none_is_required(
    bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    theirs = make_keys(tmp_path / "theirs.key", tmp_path / "theirs.pub")
    sign(bundle.path, tmp_path / "theirs.key")
    for required in (True, False):
        with pytest.raises(BundleError, match=f"signed by key {theirs}, trusted are"):
            open_bundle(bundle.path, Trust(keys=(keys[1],), require_signature=required))
    both = trusted([keys[1], tmp_path / "theirs.pub"])
    assert open_bundle(bundle.path, both).signed_by == theirs


def test_a_forged_key_id_does_not_help(
    bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    mine = sign(bundle.path, keys[0])
    make_keys(tmp_path / "theirs.key", tmp_path / "theirs.pub")
    theirs = sign(bundle.path, tmp_path / "theirs.key")
    path = bundle.path / SIGNATURE
    path.write_text(path.read_text().replace(theirs, mine))
    with pytest.raises(BundleError, match="not of this SHA256SUMS"):
        open_bundle(bundle.path, trusted([keys[1]]))


def test_changed_sums_are_found_by_the_signature_before_anything_is_parsed(
    bundle: Bundle, keys: tuple[Path, Path]
) -> None:
    """Whoever changes a file and its line of the sums cannot change the signature."""
    sign(bundle.path, keys[0])
    (bundle.path / "manifest.json").write_text("not even JSON")
    (bundle.path / SUMS).write_text("nor are these sums")
    with pytest.raises(BundleError, match="not of this SHA256SUMS"):
        open_bundle(bundle.path, trusted([keys[1]]))


@pytest.mark.parametrize(
    "text", ["", "ed25519", "rsa 0123456789abcdef AAAA", "ed25519 0123456789abcdef ***", "\xff"]
)
def test_a_damaged_signature_is_called_damaged(
    bundle: Bundle, keys: tuple[Path, Path], text: str
) -> None:
    (bundle.path / SIGNATURE).write_text(text)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(bundle.path, trusted([keys[1]]))


def test_one_flipped_bit_of_the_signature_is_found(bundle: Bundle, keys: tuple[Path, Path]) -> None:
    sign(bundle.path, keys[0])
    kind, identity, text = (bundle.path / SIGNATURE).read_text().split()
    raw = bytearray(base64.b64decode(text))
    raw[20] ^= 4
    again = base64.b64encode(bytes(raw)).decode()
    (bundle.path / SIGNATURE).write_text(f"{kind} {identity} {again}\n")
    with pytest.raises(BundleError, match="not of this SHA256SUMS"):
        open_bundle(bundle.path, trusted([keys[1]]))


def test_a_bundle_that_does_not_hold_together_is_not_signed(
    bundle: Bundle, keys: tuple[Path, Path]
) -> None:
    (bundle.path / "parity.json").write_text("{}")
    with pytest.raises(BundleError, match=r"parity\.json"):
        sign(bundle.path, keys[0])
    assert not (bundle.path / SIGNATURE).exists()


def test_what_is_no_key_is_named(bundle: Bundle, keys: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "junk.pub").write_text("junk")
    sign(bundle.path, keys[0])
    for key in (tmp_path / "junk.pub", tmp_path / "nowhere.pub"):
        with pytest.raises(InputError, match=key.name):
            open_bundle(bundle.path, trusted([key]))
    with pytest.raises(InputError, match=r"release\.pub"):
        sign(bundle.path, keys[1])  # the public half
    with pytest.raises(InputError, match=r"trust\.keys is empty"):
        open_bundle(bundle.path, Trust(require_signature=True))


def test_an_embedder_runs_only_what_is_signed_as_asked(
    bundle: Bundle, keys: tuple[Path, Path]
) -> None:
    with pytest.raises(BundleError, match="not signed"):
        Embedder([bundle.path], view=View.AERIAL, trust=trusted([keys[1]]))
    sign(bundle.path, keys[0])
    Embedder([bundle.path], view=View.AERIAL, trust=trusted([keys[1]])).close()
