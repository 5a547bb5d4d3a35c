"""The way in as it is put together, over restarts: what must not open again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from small_site import SITE, Served, as_user

from skyreid.server.__main__ import main
from skyreid.server.access.roles import Role
from skyreid.server.access.tokens import Tokens, file_of
from skyreid.server.config import read_settings
from skyreid.server.counters import Metrics
from skyreid.server.entrance import Entrance
from skyreid.server.store.beside import had_tokens
from skyreid.server.store.repair import repair
from skyreid.server.web.answers import Lookup, ShownSite


class Start:
    """One life of the way in, over the journal of the small site."""

    def __init__(self, entrance: Entrance) -> None:
        self.entrance = entrance

    def status(self, token: str = "") -> int:
        async def ask() -> int:
            app = as_user(self.entrance.http.config.app)
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app, client=("127.0.0.1", 5)),
                base_url="http://localhost",
                headers={"Authorization": f"Bearer {token}"} if token else {},
            ) as client:
                return (await client.get("/v1/site")).status_code

        return asyncio.run(ask())


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "site.toml").write_text('id = "plaza"\npictures = "never"\n')
    path = tmp_path / "server.toml"
    path.write_text('site = "site.toml"\n[journal]\npath = "journal.sqlite"\n')
    return path


@pytest.fixture
def start(serve: Callable[..., Served], settings: Path) -> Any:
    """Begins a life, and ends it."""

    @contextmanager
    def begin() -> Iterator[Start]:
        small = serve()
        entrance = Entrance(
            read_settings(settings, (), verb="run"),
            SITE.id,
            small.writer,
            Lookup(small.journal, ShownSite.of(SITE)),
            small.hub,
            Metrics(),
            lambda _topic, _body: True,
        )
        entrance.start("settings of a test")
        yield Start(entrance)
        entrance.stop()

    return begin


@pytest.mark.parametrize("made_while", ["it runs", "it does not"])
def test_a_lost_file_of_tokens_and_a_restart_open_nothing(
    start: Any, settings: Path, made_while: str, capsys: pytest.CaptureFixture[str]
) -> None:
    create = ["token", "create", str(settings), "ana", "--role", "admin"]
    if made_while == "it runs":
        with start() as life:
            assert life.status() == 200  # nobody has one yet
            assert main(create) == 0
    else:
        assert main(create) == 0
    journal = settings.with_name("journal.sqlite")
    assert had_tokens(journal)
    file_of(journal).unlink()
    for _ in range(2):
        with start() as life:
            assert life.status() == 401
    # A journal that is put together anew from a damaged one remembers it, too.
    mended = journal.with_name("mended.sqlite")
    repair(journal, mended)
    assert had_tokens(mended)
    # Whoever may write beside the journal gets in again, with a token of today.
    capsys.readouterr()
    assert main(create) == 0
    token = capsys.readouterr().out.strip()
    with start() as life:
        assert life.status() == 401
        assert life.status(token) == 200


def test_tokens_of_an_earlier_release_are_remembered_from_its_first_start_on(
    start: Any, settings: Path
) -> None:
    journal = settings.with_name("journal.sqlite")
    Tokens(file_of(journal)).create("ana", Role.ADMIN, 1)
    with start():
        assert had_tokens(journal)
    file_of(journal).unlink()
    with start() as life:
        assert life.status() == 401


def test_a_clock_that_is_set_back_makes_no_ended_token_good_again(
    start: Any, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = settings.with_name("journal.sqlite")
    token = Tokens(file_of(journal)).create("ana", Role.ADMIN, 1)
    with start() as life:
        assert life.status(token) == 200
    real = time.time_ns
    set_ns = [2 * 86_400 * 10**9]
    monkeypatch.setattr("time.time_ns", lambda: real() + set_ns[0])
    with start() as life:  # two days later
        assert life.status(token) == 401
        set_ns[0] = 0
        assert life.status(token) == 401  # it has run on since
    with start() as life:  # started anew by a clock that is behind
        assert life.status(token) == 401
    (ended,) = Tokens(file_of(journal)).listed()
    assert ended.revoked >= ended.end


def test_a_clock_that_is_ahead_for_a_moment_ends_no_token_for_good(
    start: Any, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = settings.with_name("journal.sqlite")
    token = Tokens(file_of(journal)).create("ana", Role.ADMIN, 1)
    real = time.time_ns
    with start() as life:
        monkeypatch.setattr("time.time_ns", lambda: real() + 10**18)
        assert life.status(token) == 401
        life.entrance._look_at_tokens()
        monkeypatch.setattr("time.time_ns", real)
        assert life.status(token) == 200
