"""A card of who came back: a picture of who had left, how sure, and a button that undoes it."""

from typing import Any

import pytest
from canned import back, eventually, identity, show, tracklet

PRESS = "document.querySelector('.returned button').click()"


def came(**returns: Any) -> dict[str, Any]:
    return identity("AB12CD34", tracklet("cam6", 5), returns=back("XY98ZW76", **returns))


def test_a_card_says_who_came_back_and_a_button_undoes_it(browser: Any, server: Any) -> None:
    server.people = {"AB12CD34": came()}
    show(browser, server)
    eventually(lambda: browser.count(".returned img"), "the picture of who had left loads")
    said = browser.text(".returned")
    for words in ("Back after 65 min", "XY98 ZW76", "93 % by looks", "told from about 213"):
        assert words in said, (words, said)
    undone = came(state="undone")
    server.session = server.session | {"csrf": "a-word"}
    server.people = {"AB12CD34": undone}
    server.undone = undone
    browser.run(PRESS)
    eventually(lambda: "cannot be taken back" in browser.text(".returned"), "it is asked again")
    assert not server.changed
    browser.run(PRESS)
    eventually(lambda: "somebody said so" in browser.text(".returned"), "it is undone")
    assert ("POST", "/v1/identities/AB12CD34/return/undo") in [c[:2] for c in server.changed]
    assert browser.count(".returned button") == 0


@pytest.mark.parametrize(
    ("status", "said", "locked"),
    [
        (403, "only an operator may", False),
        (404, "There is no return any more", False),
        (500, "try again", False),
        (401, "", True),
        (400, "", True),  # purpose and case are asked for, and missing
    ],
)
def test_who_may_not_undo_is_told_why_and_not_to_try_again(
    browser: Any, server: Any, status: int, said: str, locked: bool
) -> None:
    server.people = {"AB12CD34": came()}
    server.undo_status = status
    server.session = server.session | {
        "csrf": "a-word",
        "purpose_required": status == 400,
        "case": "7",
    }
    show(browser, server)
    eventually(lambda: browser.count(".returned button"), "the card is there")
    browser.run(PRESS)
    browser.run(PRESS)
    if locked:
        eventually(lambda: browser.count("body.locked form"), "the form comes")
    else:
        eventually(lambda: said in browser.text(".returned"), said)
        assert ("try again" in browser.text(".returned")) == (status == 500)


def test_a_suggestion_says_why_it_is_none_and_a_viewer_has_no_button(
    browser: Any, server: Any
) -> None:
    server.pictures = "never"
    server.session = server.session | {"role": "viewer", "open": False}
    then = tracklet("cam1", 1, picture=None, picture_reason="policy: never")
    why = "others look as much alike"
    server.people = {"AB12CD34": came(state="tentative", reason=why, tracklet=then)}
    show(browser, server)
    eventually(lambda: browser.count(".returned"), "the card is there")
    assert "perhaps is XY98 ZW76, back after 65 min (93 %)" in browser.text("#feed")
    said = browser.text(".returned")
    assert said.index(why) < said.index("93 % by looks"), "what it is comes before how sure"
    for words in ("Perhaps back after", why, "policy: never"):
        assert words in said, (words, said)
    assert browser.count(".returned button") == 0
    link = {"state": "tentative", "gap_s": 3900.0, "probability": 0.7}
    event = {"type": "returned", "identity": "AB12CD34", "other": "XY98ZW76", "at_ns": 1}
    server.tell("identity", {**event, "return": link, "tracks": []})
    eventually(lambda: "(70 %)" in browser.text("#feed"), "the feed says it")
    assert browser.text("#feed").count("perhaps is XY98 ZW76") == 1
    browser.press("4")
    pressed = '[aria-pressed="true"]'
    eventually(lambda: browser.text(pressed) == "Here before 1", "who may be back alone")
