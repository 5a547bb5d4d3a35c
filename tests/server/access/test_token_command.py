"""``skyreid-server token`` as root, in a folder of the server's user."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from skyreid.server.__main__ import main

SOMEBODY = 54_321


@pytest.fixture
def settings() -> Iterator[Path]:
    """Settings whose journal's folder is somebody else's, where that user can come to it."""
    if os.geteuid() != 0:
        pytest.skip("only root makes files of others")
    with tempfile.TemporaryDirectory() as made:
        home = Path(made)
        home.chmod(0o755)
        data = home / "data"
        data.mkdir(mode=0o700)
        os.chown(data, SOMEBODY, SOMEBODY)
        path = home / "server.toml"
        path.write_text('site = "site.toml"\n[journal]\npath = "data/journal.sqlite"\n')
        yield path


def create(settings: Path) -> int:
    return main(["token", "create", str(settings), "ana", "--role", "viewer"])


def test_what_root_makes_is_the_servers(settings: Path) -> None:
    assert create(settings) == 0
    made = list((settings.parent / "data").rglob("*"))
    assert {"journal.sqlite.tokens", "journal.sqlite.audit", "lock"} <= {p.name for p in made}
    assert {path.stat().st_uid for path in made} == {SOMEBODY}
    assert all(path.stat().st_mode & 0o077 == 0 for path in made)
    assert (os.geteuid(), os.getegid()) == (0, 0)


@pytest.mark.parametrize("name", ["journal.sqlite.tokens", "journal.sqlite.audit"])
def test_no_link_of_the_servers_user_leads_root_to_another_file(settings: Path, name: str) -> None:
    """It made the file that the link named, and gave it to that user."""
    outside = settings.parent / "root"
    outside.mkdir(mode=0o755)
    link = settings.parent / "data" / name
    link.symlink_to(outside if name.endswith("audit") else outside / "preload")
    os.chown(link, SOMEBODY, SOMEBODY, follow_symlinks=False)
    assert create(settings) != 0
    assert list(outside.iterdir()) == []
