"""Returns in the API: shown with what may be seen of who had left, and undone by an operator."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from small_site import AIR, OTHER, SITE, Served

from skyreid.contract.identity_event import Return
from skyreid.server.access.roles import Role
from skyreid.server.matching.checked import Checked
from skyreid.server.matching.identity import Decision

CAME, LEFT = OTHER.identity_id(), AIR.identity_id()
LINK = Return("accepted", 0.93, OTHER, AIR, 3900.0, 213, 0.81, ("aerial", "aerial"))


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    small = serve()
    small.writer.decide(Decision("return", 9, CAME, (OTHER,), LEFT, link=LINK))
    return small


def test_an_identity_says_of_whom_it_is_a_return_and_how_sure_that_is(served: Served) -> None:
    came, left = served.get(f"/v1/identities/{CAME}").json(), served.get(f"/v1/identities/{LEFT}")
    assert (left.json()["person"], left.json()["returns"]) == (LEFT, None)
    assert came["person"] == LEFT
    told = came["returns"]
    assert (told["identity"], told["person"], told["state"]) == (LEFT, LEFT, "accepted")
    assert (told["probability"], told["gap_s"], told["told_from"]) == (0.93, 3900.0, 213)
    assert told["checked"] == {"told": None, "wrong": None, "source": "prior"}, "it is one of one"
    assert told["with"] == AIR.to_json()
    assert told["tracklet"]["picture"] == "/v1/pictures/uav1/1-a/cam1/7"
    listed = served.get("/v1/identities").json()["identities"]
    assert {one["id"]: one["person"] for one in listed} == {CAME: LEFT, LEFT: LEFT}


def test_who_had_left_has_no_picture_where_the_site_keeps_none(
    serve: Callable[..., Served],
) -> None:
    small = serve(SITE.model_copy(update={"pictures": "never"}))
    small.writer.decide(Decision("return", 9, CAME, (OTHER,), LEFT, link=LINK))
    then = small.get(f"/v1/identities/{CAME}").json()["returns"]["tracklet"]
    assert (then["picture"], then["picture_reason"]) == (None, "policy: never")


def test_an_operator_undoes_a_return_with_a_line_in_the_audit_log(served: Served) -> None:
    ana = served.tokens.create("ana", Role.OPERATOR, 1)
    url = f"/v1/identities/{CAME}/return/undo"
    got = served.ask("POST", url, token=ana)
    assert (got.status_code, got.json()["person"]) == (200, CAME)
    assert got.json()["returns"]["state"] == "undone"
    assert [(n["act"], n["who"], n["what"], n.get("answer", 0)) for n in served.lines()[-2:]] == [
        ("undo", "ana", url, 0),
        ("undo", "ana", url, 200),
    ]
    again = served.ask("POST", url, token=ana)
    assert (again.status_code, again.json()["returns"]["state"]) == (200, "undone")
    nothing = served.ask("POST", f"/v1/identities/{LEFT}/return/undo", token=ana)
    assert nothing.status_code == 404


def test_a_page_needs_its_word_to_undo(served: Served) -> None:
    served.tokens.create("ana", Role.OPERATOR, 1)
    token = served.tokens.create("bo", Role.OPERATOR, 1)
    opened = served.ask("POST", "/v1/session", json={"token": token})
    cookie = {"Cookie": opened.headers["set-cookie"].partition(";")[0]}
    url = f"/v1/identities/{CAME}/return/undo"
    assert served.ask("POST", url, headers=cookie).status_code == 403
    word = {"Skyreid-CSRF": opened.json()["csrf"]}
    assert served.ask("POST", url, headers=cookie | word).status_code == 200


def test_a_busy_server_says_so(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    from skyreid.server.web import api

    monkeypatch.setattr(api, "UNDO_WAIT_S", 0.01)
    monkeypatch.setattr(served.writer.people, "undo", served.writer._people.undo)
    ana = served.tokens.create("ana", Role.OPERATOR, 1)
    got = served.ask("POST", f"/v1/identities/{CAME}/return/undo", token=ana)
    assert got.status_code == 503
    assert "retry-after" in got.headers


def test_beside_a_return_stands_how_many_like_it_operators_undid(served: Served) -> None:
    counts = Checked((0, 0, 29, 0), (0, 0, 2, 0))
    served.writer.state = replace(served.writer.state, checked_returns=counts)
    told = served.get(f"/v1/identities/{CAME}").json()["returns"]
    assert told["checked"]["source"] == "prior"
    again = replace(LINK, probability=0.97)  # told anew, it is still one
    served.writer.decide(Decision("return", 9, CAME, (OTHER,), LEFT, link=again))
    assert served.writer.state.checked_returns == counts
    more = replace(served.writer.state, checked_returns=Checked((0, 0, 30, 0), (0, 0, 2, 0)))
    served.writer.state = more
    told = served.get(f"/v1/identities/{CAME}").json()["returns"]
    assert told["checked"] == {"told": 30, "wrong": 2, "source": "operator"}
