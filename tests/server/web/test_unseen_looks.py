"""Ways to look that the audit log did not show, or that a log-in did not end."""

import asyncio
import os
from collections.abc import Callable
from typing import Any

import pytest
from small_site import Served

from skyreid.contract.errors import InputError
from skyreid.server.access.options import AccessOptions
from skyreid.server.access.roles import Role
from skyreid.server.access.sessions import HOURS, Sessions


@pytest.fixture
def small(serve: Callable[..., Served]) -> Served:
    return serve()


def events(served: Served, headers: dict[str, str], heard: Callable[[str], None]) -> str:
    """What a listener to events is sent until its stream ends; ``heard`` is told as it comes."""
    sent = [(b"host", b"localhost"), *((k.encode(), v.encode()) for k, v in headers.items())]
    scope = {
        "type": "http", "method": "GET", "path": "/v1/events", "raw_path": b"/v1/events",
        "query_string": b"", "client": ("127.0.0.1", 5), "http_version": "1.1", "scheme": "http",
        "server": ("localhost", 80), "headers": sent, "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    got: list[bytes] = []

    async def listen() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(200)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            got.append(message.get("body", b""))
            heard(got[-1].decode())

        await asyncio.wait_for(served.served(scope, receive, send), 200)

    asyncio.run(listen())
    return b"".join(got).decode()


def test_the_whole_log_of_events_leaves_as_an_export_however_its_start_is_said(
    small: Served,
) -> None:
    """Last-Event-ID gives the same as ``after``, and was one more look at the live page."""
    token = small.tokens.create("ana", Role.OPERATOR, 1)
    hold = {"authorization": f"Bearer {token}"}

    def ended(text: str) -> None:
        if text.startswith(": skyreid"):
            small.hub.close()

    events(small, hold, ended)
    events(small, {**hold, "last-event-id": "0-0"}, ended)
    small.ask("GET", "/v1/events?after=x", token=token)
    acts = [line["act"] for line in small.lines() if line["what"] == "/v1/events"]
    assert acts == ["watch", "export", "export"]


def test_who_watched_while_it_could_not_be_written_down_is_no_further(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first request was refused, and the second passed: it was thought to be written."""
    token = small.tokens.create("ana", Role.VIEWER, 1)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(3):
        assert small.ask("GET", "/v1/identities", token=token).status_code == 503
    monkeypatch.undo()
    assert small.ask("GET", "/v1/identities?limit=0", token=token).status_code == 422
    assert small.ask("GET", "/v1/identities", token=token).status_code == 200
    said = [(line["act"], line["answer"]) for line in small.lines()]
    assert said == [("watch", 422), ("watch", 200)]


def test_who_watches_for_another_case_is_written_down_again(serve: Callable[..., Served]) -> None:
    served = serve(purpose_required=True)
    token = served.tokens.create("ana", Role.VIEWER, 1)
    for case in ("17", "17", "18", "17"):
        why = {"Skyreid-Purpose": "theft", "Skyreid-Case": case}
        assert served.ask("GET", "/v1/identities", token=token, headers=why).status_code == 200
    assert [line["case"] for line in served.lines()] == ["17", "18"]


@pytest.mark.parametrize("blank", ["\u200b", " ", "\u00a0"])
def test_a_purpose_that_nobody_sees_is_none(serve: Callable[..., Served], blank: str) -> None:
    served = serve(purpose_required=True)
    token = served.tokens.create("ana", Role.VIEWER, 1)
    why = {"Skyreid-Purpose": blank.encode(), "Skyreid-Case": b"17"}
    assert served.ask("GET", "/v1/identities", token=token, headers=why).status_code == 400
    got = served.ask("POST", "/v1/session", json={"token": token})
    held = {
        "Cookie": got.headers["set-cookie"].partition(";")[0],
        "Skyreid-CSRF": got.json()["csrf"],
    }
    said = {"purpose": blank, "case": "17"}
    served.ask("PUT", "/v1/session/purpose", headers=held, json=said)
    assert served.ask("GET", "/v1/identities", headers=held).status_code == 400


def test_a_purpose_is_written_down_to_its_last_letter(serve: Callable[..., Served]) -> None:
    served = serve(purpose_required=True)
    token = served.tokens.create("ana", Role.VIEWER, 1)
    why = {"Skyreid-Purpose": " voil\u00e0".encode(), "Skyreid-Case": "\u0105\u0105".encode()}
    served.ask("GET", "/v1/identities", token=token, headers=why)
    assert served.lines()[-1]["purpose"] == "voil\u00e0"
    assert served.lines()[-1]["case"] == "\u0105\u0105"


def test_a_stream_ends_with_the_session_that_opened_it(serve: Callable[..., Served]) -> None:
    """It went on for as long as the token was good, twelve hours or ninety days."""
    now_s = [1000.0]
    small = serve(sessions=Sessions(lambda: now_s[0]))
    token = small.tokens.create("ana", Role.VIEWER, 1)
    got = small.ask("POST", "/v1/session", json={"token": token})
    assert got.status_code == 200

    def heard(text: str) -> None:
        if text.startswith(": skyreid"):
            small.hub.send("identity", {"n": 1})
        elif '"n":1' in text:
            now_s[0] += HOURS * 3_600
            small.hub.send("identity", {"n": 2})
        elif '"n":2' in text:
            small.hub.close()

    said = events(small, {"cookie": got.headers["set-cookie"].partition(";")[0]}, heard)
    assert '"n":1' in said
    assert '"n":2' not in said


@pytest.mark.parametrize("header", ["Forwarded", "Via", "X-Forwarded-For", "X-Real-IP"])
def test_whoever_comes_through_a_proxy_on_this_machine_is_not_this_machine(
    small: Served, header: str
) -> None:
    """A proxy in front made everybody who reached it admin until the first token."""
    assert small.get("/v1/identities").status_code == 200
    got = small.get("/v1/identities", {header: "203.0.113.9"})
    assert got.status_code == 401
    assert "through no proxy" in got.json()["reason"]
    assert small.lines()[-1]["act"] == "refused"


@pytest.mark.parametrize("name", ["nobody", "anyone", "server", "Server"])
def test_no_token_has_the_name_by_which_the_log_calls_others(small: Served, name: str) -> None:
    with pytest.raises(InputError, match="the audit log says that of others"):
        small.tokens.create(name, Role.VIEWER, 1)


BEYOND = [
    ("/v1/identities?cursor=", {}),
    ("/v1/identities?limit=1&%63ursor=1", {}),
    ("/v1/sightings?identity=", {}),
    ("/v1/sightings?camera=cam1", {}),
    ("/v1/events?after=0-0", {}),
    ("/v1/events", {"Last-Event-ID": "0-0"}),
]


@pytest.mark.parametrize(("url", "headers"), BEYOND, ids=[url for url, _ in BEYOND])
def test_a_viewer_sees_the_page_and_pages_through_nobody(
    small: Served, url: str, headers: dict[str, str]
) -> None:
    """Who may look at the live page could carry off everybody, a page at a time."""
    viewer = small.tokens.create("ana", Role.VIEWER, 1)
    for seen in ("/v1/identities?limit=200", "/v1/sightings?limit=600", "/readyz"):
        assert small.get(seen, {"Authorization": f"Bearer {viewer}"}).status_code in (200, 503)
    got = small.ask("GET", url, token=viewer, headers=headers)
    assert got.status_code == 403
    assert "needs the role operator" in got.json()["reason"]
    assert (small.lines()[-1]["act"], small.lines()[-1]["answer"]) == ("refused", 403)


def test_an_operator_pages_only_so_often(serve: Callable[..., Served]) -> None:
    small = serve(options=AccessOptions(searches_per_min=2))
    token = small.tokens.create("bo", Role.OPERATOR, 1)
    url = "/v1/sightings?camera=cam1"
    assert [small.ask("GET", url, token=token).status_code for _ in range(3)] == [200, 200, 429]
    assert small.ask("GET", "/v1/sightings", token=token).status_code == 200  # the page goes on
