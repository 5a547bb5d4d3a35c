"""The gate: every route of the application, whoever asks; what it answers and what it writes."""

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from small_site import AIR, JPEG, Served

from skyreid.server.access.options import AccessOptions
from skyreid.server.access.roles import RULES, Role
from skyreid.server.audit.verify import verify
from skyreid.server.web.gate import REFUSALS_PER_MIN

IDS = {
    "identity": AIR.identity_id(),
    "device": "uav1",
    "boot": "1-a",
    "camera": "cam1",
    "track": "7",
    "number": "1",
    "name": "somebody",
}
GUARDED = [(method, path) for (method, path), rule in RULES.items() if rule.least is not None]
PICTURE = "/v1/pictures/uav1/1-a/cam1/7"
SEARCH = "/v1/similar/uav1/1-a/cam1/7"


@pytest.fixture
def small(serve: Callable[..., Served]) -> Served:
    return serve()


def filled(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: IDS[found[1]], path)


def test_the_table_and_openapi_know_the_same_routes(small: Served) -> None:
    """Generated from the application: a route that is added without a rule does not start."""
    described = {
        (method.upper(), path)
        for path, operations in small.api.openapi()["paths"].items()
        for method in operations
    }
    assert described == RULES.keys() - {
        ("GET", "/"),
        ("GET", "/page"),
        ("GET", "/v1/openapi.json"),
    }
    from skyreid.server.web.gate import Gate

    small.api.get("/v1/forgotten")(lambda: {})
    with pytest.raises(ValueError, match="GET /v1/forgotten"):
        Gate(small.api, small.access)


@pytest.mark.parametrize(("method", "path"), GUARDED, ids=[" ".join(r) for r in GUARDED])
def test_every_route_without_a_good_token_is_401_or_403_and_an_audit_line(
    small: Served, method: str, path: str
) -> None:
    rule = RULES[method, path]
    good = small.tokens.create("ana", Role.ADMIN, 1)
    expired = small.tokens.create("late", Role.ADMIN, 1e-9)
    gone = small.tokens.create("gone", Role.ADMIN, 1)
    small.tokens.revoke("gone")
    tries = [("", "nobody"), ("sk~0~wrong", "nobody"), (good[:-1] + "!", "nobody")]
    tries += [(expired, "late"), (gone, "gone")]
    url = filled(path)
    for token, who in tries:
        got = small.ask(method, url, token=token)
        assert got.status_code == 401
        assert got.headers["www-authenticate"] == "Bearer"
        assert token not in got.text or not token
        last = small.lines()[-1]
        assert (last["act"], last["who"], last["answer"]) == ("refused", who, 401)
        assert last["what"].startswith(f"{method} ")
    if rule.least is not None and rule.least > Role.VIEWER:
        lesser = small.tokens.create("less", Role(rule.least - 1), 1)
        got = small.ask(method, url, token=lesser)
        assert got.status_code == 403
        assert f"needs the role {rule.least.word}" in got.json()["reason"]
        last = small.lines()[-1]
        assert (last["who"], last["role"], last["answer"]) == (
            "less",
            Role(rule.least - 1).word,
            403,
        )
        assert last["what"].endswith(url if "{" not in path or "?" not in last["what"] else "")
    cookie = {"Cookie": "skyreid=unknown"}
    assert small.ask(method, url, headers=cookie).status_code == 401
    basic = {"Authorization": "Basic YTpi"}
    assert small.ask(method, url, headers=basic).status_code == 401
    assert verify(small.journal.with_name("journal.sqlite.audit")).wrong == []


@pytest.mark.parametrize(
    ("method", "url"),
    [
        ("GET", "/v1/nothing"),
        ("POST", "/v1/identities"),
        ("PUT", "/v1/session"),
        ("OPTIONS", "/v1/site"),
        ("GET", "/docs"),
        ("POST", "/page/main.js"),
        ("GET", "/v1/site/"),
        ("GET", "//v1/site"),
        ("GET", "/v1/../v1/site"),
        ("GET", "/V1/site"),
    ],
)
def test_what_is_no_route_is_for_nobody_without_a_login_either(
    small: Served, method: str, url: str
) -> None:
    token = small.tokens.create("ana", Role.ADMIN, 1)
    assert small.ask(method, url).status_code == 401
    assert small.ask(method, url, token=token).status_code in (200, 307, 404, 405)


def test_what_is_public_tells_nothing_of_the_site(small: Served) -> None:
    small.tokens.create("ana", Role.ADMIN, 1)
    small.writer.storing, small.writer.fault = False, "full"
    for url in ("/", "/page/main.js"):
        assert small.get(url).status_code == 200
    assert small.get("/healthz").json() == {"status": "degraded"}
    assert small.ask("POST", "/v1/session", json={}).status_code == 401
    assert small.ask("POST", "/v1/session", json={"token": "x" * 300}).status_code == 422


def test_without_a_token_this_machine_may_do_everything_and_no_other(small: Served) -> None:
    assert small.get("/v1/session").json() == {
        "name": "anyone",
        "role": "admin",
        "open": True,
        "csrf": None,
        "until": None,
        "purpose_required": False,
        "purpose": "",
        "case": "",
    }
    assert small.get(PICTURE).content == JPEG
    assert small.lines()[-1]["who"] == "anyone"
    assert small.ask("GET", "/v1/site", peer="10.0.0.9").status_code == 401
    small.tokens.create("ana", Role.VIEWER, 1)
    assert small.get("/v1/site").status_code == 401


def test_looks_are_written_down_with_who_and_what(small: Served) -> None:
    token = small.tokens.create("ana", Role.ADMIN, 1)
    for url in (PICTURE, SEARCH, "/v1/identities", "/v1/identities", "/v1/site", "/readyz"):
        small.ask("GET", url, token=token)
    small.ask("GET", "/v1/identities?cursor=W10=", token=token)
    small.ask("GET", "/v1/events?after=x", token=token)
    small.ask("GET", "/v1/events", token=token, headers={"Last-Event-ID": "x"})
    small.ask("GET", "/v1/sightings?%63amera=cam1", token=token)
    small.ask("GET", f"/v1/identities/{AIR.identity_id()}", token=token)
    small.ask("GET", "/v1/identities/sk~secret~", token=token)
    small.ask("DELETE", "/v1/tokens/nobody", token=token)
    said = [(line["act"], line.get("what"), line.get("answer")) for line in small.lines()]
    assert said == [
        ("picture", PICTURE, 200),
        ("search", SEARCH, 404),  # nothing is in the gallery of this test
        ("watch", "/v1/identities", 200),  # once in a while, whoever asks how often
        ("export", "/v1/identities", 422),
        ("export", "/v1/events", 422),
        ("export", "/v1/events", 422),
        ("search", "/v1/sightings", 200),
        ("look", f"/v1/identities/{AIR.identity_id()}", 200),
        ("look", "/v1/identities/?", 404),
        ("token", "/v1/tokens/nobody", None),  # before it is done
        ("token", "/v1/tokens/nobody", 404),
    ]
    assert {(line["who"], line["role"], line["peer"]) for line in small.lines()} == {
        ("ana", "admin", "127.0.0.1")
    }


def logged_in(served: Served, token: str) -> tuple[str, str]:
    """The cookie of a session and its word against forged requests."""
    got = served.ask("POST", "/v1/session", json={"token": token})
    assert got.status_code == 200
    return got.headers["set-cookie"].partition(";")[0], got.json()["csrf"]


def test_a_session_stands_for_its_token_and_ends_with_it(small: Served) -> None:
    token = small.tokens.create("ana", Role.OFFICER, 1)
    got = small.ask("POST", "/v1/session", json={"token": token})
    flags = got.headers["set-cookie"].lower()
    assert "httponly" in flags
    assert "samesite=strict" in flags
    assert "secure" not in flags
    assert token not in got.text
    cookie, csrf = logged_in(small, token)
    held = {"Cookie": cookie}
    assert small.ask("GET", "/v1/session", headers=held).json()["name"] == "ana"
    url = "/v1/identities/NOBODY00?reason=asked"
    for word in ("", "wrong", csrf[:-1]):
        forged = small.ask("DELETE", url, headers={**held, "Skyreid-CSRF": word})
        assert forged.status_code == 403
        assert "skyreid-csrf" in forged.json()["reason"]
    ended = small.ask("DELETE", "/v1/session", headers={**held, "Skyreid-CSRF": csrf})
    assert ended.status_code == 204
    assert small.ask("GET", "/v1/session", headers=held).status_code == 401
    cookie, csrf = logged_in(small, token)
    small.tokens.revoke("ana")
    assert small.ask("GET", "/v1/session", headers={"Cookie": cookie}).status_code == 401
    acts = [(line["act"], line["who"], line.get("answer")) for line in small.lines()]
    assert acts.count(("login", "ana", 200)) == 3
    assert ("logout", "ana", 204) in acts


def test_a_link_logs_in_once_and_under_tls_the_cookie_says_so(
    serve: Callable[..., Served],
) -> None:
    served = serve(secure=True)
    served.tokens.create("ana", Role.VIEWER, 1)
    word = served.tokens.make_link("ana")
    got = served.ask("POST", "/v1/session", json={"link": word})
    assert got.status_code == 200
    assert got.headers["set-cookie"].startswith("__Host-skyreid=")
    assert "secure" in got.headers["set-cookie"].lower()
    assert served.ask("POST", "/v1/session", json={"link": word}).status_code == 401
    assert served.lines()[-1]["act"] == "refused"


def test_purpose_and_case_are_asked_for_and_written_down(serve: Callable[..., Served]) -> None:
    served = serve(purpose_required=True)
    token = served.tokens.create("ana", Role.OPERATOR, 1)
    got = served.ask("GET", PICTURE, token=token)
    assert got.status_code == 400
    assert "skyreid-purpose and skyreid-case" in got.json()["reason"]
    half = served.ask("GET", PICTURE, token=token, headers={"Skyreid-Purpose": "theft"})
    assert half.status_code == 400
    assert "purpose" not in half.json()["reason"].split(",")[0].replace("asks", "")
    why = {"Skyreid-Purpose": "a bag stolen at the caf\u00e9".encode(), "Skyreid-Case": b"2026-17"}
    assert served.ask("GET", PICTURE, token=token, headers=why).status_code == 200
    last = served.lines()[-1]
    assert (last["purpose"], last["case"]) == ("a bag stolen at the caf\u00e9", "2026-17")
    assert served.ask("GET", "/v1/site", token=token).status_code == 200  # about nobody
    cookie, csrf = logged_in(served, token)
    held = {"Cookie": cookie, "Skyreid-CSRF": csrf}
    assert served.ask("GET", PICTURE, headers=held).status_code == 400
    said = {"purpose": "theft", "case": "2026-18"}
    put = served.ask("PUT", "/v1/session/purpose", headers=held, json=said)
    assert put.json() | said == put.json()
    assert served.ask("GET", PICTURE, headers=held).status_code == 200
    assert served.lines()[-1]["case"] == "2026-18"
    assert served.ask("PUT", "/v1/session/purpose", token=token, json=said).status_code == 409


def test_one_token_searches_and_looks_only_so_often(serve: Callable[..., Served]) -> None:
    options = AccessOptions(searches_per_min=2, pictures_per_min=3)
    served = serve(options=options, now_s=lambda: 0.0)
    ana = served.tokens.create("ana", Role.OPERATOR, 1)
    bo = served.tokens.create("bo", Role.OPERATOR, 1)
    for url, allowed, key in ((SEARCH, 2, "searches"), (PICTURE, 3, "pictures")):
        got = [served.ask("GET", url, token=ana) for _ in range(allowed + 1)]
        assert [answer.status_code == 429 for answer in got] == [False] * allowed + [True]
        assert f"access.{key}_per_min" in got[-1].json()["reason"]
        assert int(got[-1].headers["retry-after"]) >= 1
        assert served.lines()[-1]["answer"] == 429
        assert served.ask("GET", url, token=bo).status_code != 429


def test_a_flood_of_refusals_fills_no_disk_and_hides_nobody_else(
    serve: Callable[..., Served],
) -> None:
    now_s = [0.0]
    small = serve(now_s=lambda: now_s[0])
    ana = small.tokens.create("ana", Role.VIEWER, 1)
    for _ in range(REFUSALS_PER_MIN + 20):
        assert small.get("/v1/site").status_code == 401
    listed = [line for line in small.lines() if line["act"] == "refused"]
    assert len(listed) == REFUSALS_PER_MIN
    now_s[0] = 1.0
    assert small.get("/v1/site").status_code == 401
    assert small.lines()[-1]["what"] == "GET /v1/site, after 20 more that are not listed"
    assert small.ask("GET", "/v1/tokens", token=ana).status_code == 403
    assert small.lines()[-1]["who"] == "ana"
    text = small.metrics.text()[0].decode()
    assert f'skyreid_http_refused_total{{status="401"}} {REFUSALS_PER_MIN + 21}.0' in text


def test_what_cannot_be_written_down_is_not_done_and_not_shown(
    small: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = small.tokens.create("ana", Role.ADMIN, 1)
    assert small.ask("GET", PICTURE, token=token).status_code == 200

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    got = small.ask("GET", PICTURE, token=token)
    assert got.status_code == 503
    assert JPEG not in got.content
    got = small.ask("DELETE", "/v1/tokens/ana", token=token)
    assert (got.status_code, got.json()["reason"]) == (
        503,
        "the audit log cannot be written: nothing was done",
    )
    assert small.ask("GET", "/v1/site").status_code == 401  # refused all the same
    monkeypatch.undo()
    assert small.ask("GET", "/v1/session", token=token).status_code == 200
    assert "skyreid_audit_failures_total 3.0" in small.metrics.text()[0].decode()


def test_a_guards_refusals_are_written_down_too(small: Served) -> None:
    for headers, status in (({"host": "evil.example"}, 421), ({"origin": "http://evil"}, 403)):
        assert small.get("/v1/identities", headers).status_code == status
        last = small.lines()[-1]
        assert (last["act"], last["answer"]) == ("refused", status)
        assert "evil" not in str(last)


def test_admins_see_and_take_back_tokens_but_no_secret(small: Served) -> None:
    token = small.tokens.create("ana", Role.ADMIN, 1)
    lost = small.tokens.create("lost", Role.VIEWER, 1)
    got = small.ask("GET", "/v1/tokens", token=token)
    assert {each["name"] for each in got.json()["tokens"]} == {"ana", "lost"}
    kept = small.journal.with_name("journal.sqlite.tokens").read_text()
    for secret in re.findall(r'"(?:digest|salt|id)": "(\w+)"', kept):
        assert secret not in got.text
    assert small.ask("DELETE", "/v1/tokens/lost", token=token).json() == {"revoked": 1}
    assert small.ask("GET", "/v1/site", token=lost).status_code == 401


def test_a_stream_ends_with_the_login_it_was_opened_with(small: Served) -> None:
    token = small.tokens.create("ana", Role.VIEWER, 1)
    headers = [(b"host", b"localhost"), (b"authorization", f"Bearer {token}".encode())]
    scope = {
        "type": "http", "method": "GET", "path": "/v1/events", "raw_path": b"/v1/events",
        "query_string": b"", "headers": headers, "client": ("127.0.0.1", 5), "http_version": "1.1",
        "scheme": "http", "server": ("localhost", 80), "root_path": "", "asgi": {"version": "3.0"},
    }  # fmt: skip
    heard: list[bytes] = []

    async def listen() -> None:
        async def receive() -> dict[str, Any]:
            await asyncio.sleep(200)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            heard.append(message.get("body", b""))
            if b": skyreid" in heard[-1]:
                small.hub.send("identity", {"n": 1})
            elif b'"n":1' in heard[-1]:
                small.tokens.revoke("ana")
                small.hub.send("identity", {"n": 2})

        await asyncio.wait_for(small.served(scope, receive, send), 200)

    asyncio.run(listen())
    assert b'"n":1' in b"".join(heard)
    assert b'"n":2' not in b"".join(heard)
    assert len(small.hub) == 0


def test_a_body_is_bounded_and_an_error_does_not_repeat_what_was_given(small: Served) -> None:
    token = small.tokens.create("ana", Role.VIEWER, 1)
    assert small.ask("POST", "/v1/session", content=b"x" * 9_000).status_code == 413
    for wrong in ({"tokn": token}, {"token": [token]}, {"token": token, "x": token}):
        got = small.ask("POST", "/v1/session", json=wrong)
        assert got.status_code == 422
        assert token not in got.text
