"""Tokens, sessions and limits by themselves."""

import json
import os
import stat
from pathlib import Path

import pytest

from skyreid.contract.errors import InputError
from skyreid.server.access.limits import Limit
from skyreid.server.access.roles import Role
from skyreid.server.access.sessions import OF_ONE_TOKEN, SESSIONS_MAX, Sessions
from skyreid.server.access.tokens import Tokens


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "journal.tokens")


def test_a_token_is_good_until_its_end_and_its_secret_is_kept_nowhere(
    tokens: Tokens, tmp_path: Path
) -> None:
    assert not tokens.made
    secret = tokens.create("ana", Role.OPERATOR, 1)
    short = tokens.create("bo", Role.VIEWER, 1e-9)
    assert tokens.made
    found, trouble = tokens.check(secret)
    assert found is not None
    assert (found.name, found.least, trouble) == ("ana", Role.OPERATOR, "")
    assert tokens.check(short).trouble == "expired"
    kept = (tmp_path / "journal.tokens").read_text()
    assert secret.split("~")[2] not in kept
    assert stat.S_IMODE(os.stat(tmp_path / "journal.tokens").st_mode) == 0o600
    assert "digest" not in str(found.shown())
    assert "salt" not in str(found.shown())


@pytest.mark.parametrize("change", [0, 5, 18, 30, 58])
def test_what_is_nearly_a_token_is_none(tokens: Tokens, change: int) -> None:
    secret = tokens.create("ana", Role.ADMIN, 1)
    other = "B" if secret[change] != "B" else "C"
    assert tokens.check(secret[:change] + other + secret[change + 1 :]) == (None, "unknown")
    for text in ("", secret[:-1], f"{secret}A", f"{secret}\n", secret.upper(), "é"):
        assert tokens.check(text).token is None


def test_another_process_takes_a_token_back_and_it_is_none_at_once(
    tokens: Tokens, tmp_path: Path
) -> None:
    secret = tokens.create("ana", Role.ADMIN, 1)
    assert not tokens.check(secret).trouble
    command = Tokens(tmp_path / "journal.tokens")
    assert command.revoke("ana") == 1
    assert tokens.check(secret).trouble == "revoked"
    with pytest.raises(InputError, match="none of this name"):
        command.revoke("ana")
    assert command.create("ana", Role.VIEWER, 1) != secret  # the name is free again
    with pytest.raises(InputError, match="revoke it first"):
        command.create("ana", Role.VIEWER, 1)
    with pytest.raises(InputError, match="not a valid name"):
        command.create("a na", Role.VIEWER, 1)


@pytest.mark.parametrize("what", ["gone", "cut", "foreign", "empty"])
def test_tokens_that_are_lost_let_nobody_in(tokens: Tokens, tmp_path: Path, what: str) -> None:
    path = tmp_path / "journal.tokens"
    secret = tokens.create("ana", Role.ADMIN, 1)
    assert not tokens.check(secret).trouble
    if what == "gone":
        path.unlink()
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    else:
        path.write_text(json.dumps({"tokens": [{"name": "x"}]}) if what == "foreign" else "")
    assert tokens.made  # and not open again
    assert tokens.check(secret).token is None


def test_a_link_logs_in_once(tokens: Tokens) -> None:
    tokens.create("ana", Role.VIEWER, 1)
    word = tokens.make_link("ana")
    assert tokens.redeem(word[:-1] + "!") == (None, "unknown")
    found = tokens.redeem(word).token
    assert found is not None
    assert found.name == "ana"
    assert tokens.redeem(word) == (None, "unknown")
    late = tokens.make_link("ana")
    tokens.revoke("ana")
    assert tokens.redeem(late).token is None
    with pytest.raises(InputError, match="no good one"):
        tokens.make_link("ana")


def test_what_is_over_is_written_down_once_and_a_link_with_it(tmp_path: Path) -> None:
    at_ns = [10**18]
    tokens = Tokens(tmp_path / "tokens", now_ns=lambda: at_ns[0])
    short, long = (tokens.create(name, Role.VIEWER, days) for name, days in (("a", 1), ("b", 9)))
    word = tokens.make_link("b")
    assert tokens.end_those_over(at_ns[0]) == []
    before = (tmp_path / "tokens").stat().st_ino
    assert tokens.end_those_over(at_ns[0]) == []
    assert (tmp_path / "tokens").stat().st_ino == before  # and nothing is written for nothing
    at_ns[0] += 2 * 86_400 * 10**9
    assert tokens.end_those_over(at_ns[0]) == ["a"]
    assert tokens.end_those_over(at_ns[0]) == []
    at_ns[0] = 10**18
    assert tokens.check(short).trouble == "expired"
    assert tokens.check(long).trouble == ""
    assert tokens.redeem(word).token is None
    tokens.create("a", Role.VIEWER, 1)  # the name is free again


def test_a_session_ends_and_there_are_never_too_many(tokens: Tokens) -> None:
    tokens.create("ana", Role.VIEWER, 1)
    token = tokens.listed()[0]
    now_s = [0.0]
    sessions = Sessions(lambda: now_s[0])
    cookie, first = sessions.begin(token)
    assert sessions.of(cookie) is first
    assert first.fits(first.csrf)
    assert not first.fits("")
    assert not first.fits("é")
    for _ in range(OF_ONE_TOKEN):
        last, _session = sessions.begin(token)
    assert first.ended
    assert sessions.of(cookie) is None
    assert len(sessions) == OF_ONE_TOKEN
    sessions.end(last)
    assert sessions.of(last) is None
    other, _ = sessions.begin(token)
    now_s[0] = 13 * 3600.0
    assert sessions.of(other) is None
    assert SESSIONS_MAX > OF_ONE_TOKEN


def test_a_limit_is_each_names_own_and_fills_again() -> None:
    now_s = [0.0]
    limit = Limit(60, lambda: now_s[0])
    assert [limit.take("ana") for _ in range(60)] == [0.0] * 60
    assert limit.take("ana") == pytest.approx(1.0)
    assert limit.take("bo") == 0
    now_s[0] = 1.1
    assert limit.take("ana") == 0
    assert limit.take("ana") > 0
