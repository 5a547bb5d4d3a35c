"""The page and who asks: the form, a wrong token, a link, an ended session, purpose and case."""

from typing import Any

from canned import LINK, OPEN, TOKEN, eventually, seen_from_both, show

FILL = """
  for (const [id, text] of Object.entries(arguments[0])) document.getElementById(id).value = text;
  document.querySelector('.sheet button').click()"""
SEEN = "return getComputedStyle(document.querySelector('main')).visibility"


def fill(browser: Any, **fields: str) -> None:
    browser.run(FILL, fields)


def test_without_tokens_the_page_says_that_it_is_open(browser: Any, server: Any):
    show(browser, server)
    assert "Open: no log-in" in browser.text("#status")
    assert browser.count(".sheet") == 0


def test_a_token_opens_the_page_and_a_wrong_one_does_not(browser: Any, server: Any):
    server.session, server.people = None, {"AB12CD34": seen_from_both()}
    browser.open(server.address)
    eventually(lambda: browser.count(".sheet"), "the form")
    assert browser.text("h1") == "Log in"
    assert browser.run(SEEN) == "hidden"
    assert browser.run("return document.activeElement.type") == "password"
    fill(browser, token="wrong")
    eventually(lambda: "this token is unknown" in browser.text(".wrong"), "what was wrong")
    assert server.listeners() == 0
    fill(browser, token=f" {TOKEN}\n")
    eventually(lambda: browser.text(".connection") == "Live", "the page is live")
    assert browser.count(".sheet") == 0
    assert browser.run(SEEN) == "visible"
    assert "ana, operator" in browser.text("#status")
    assert "AB12 CD34" in browser.text(".card")
    assert TOKEN not in browser.run("return document.documentElement.outerHTML")
    assert browser.run("return localStorage.length + sessionStorage.length") == 0


def test_a_number_can_be_typed_into_the_form(browser: Any, server: Any):
    server.session = None
    browser.open(server.address)
    eventually(lambda: browser.count(".sheet"), "the form")
    script = """
      const event = new KeyboardEvent('keydown', {key: '1', bubbles: true, cancelable: true});
      return document.getElementById('token').dispatchEvent(event)"""
    assert browser.run(script) is True  # and not taken for the key of a filter


def test_a_link_logs_in_and_leaves_the_address(browser: Any, server: Any):
    server.session = None
    browser.open(f"{server.address}/#link={LINK}")
    eventually(lambda: browser.text(".connection") == "Live", "the page is live")
    assert browser.run("return location.href") == f"{server.address}/"
    server.session = None
    browser.open("about:blank")
    browser.open(f"{server.address}/#link=used")
    eventually(lambda: "used already" in browser.text(".wrong"), "that the link is used")


def test_a_session_that_ended_shows_nothing_any_more(browser: Any, server: Any):
    server.session, server.people = server.offered, {"AB12CD34": seen_from_both()}
    show(browser, server)
    eventually(lambda: browser.count(".card"), "a card")
    server.session = None
    eventually(lambda: "Your session has ended" in browser.text(".wrong"), "the form")
    assert browser.count(".card") == 0
    asked = len(server.asked)
    fill(browser, token=TOKEN)
    eventually(lambda: browser.count(".card"), "the card again")
    assert len(server.asked) > asked


def test_who_logs_out_says_the_word_and_sees_nothing(browser: Any, server: Any):
    server.session = server.offered
    show(browser, server)
    browser.run("[...document.querySelectorAll('#status button')].at(-1).click()")
    eventually(lambda: browser.text("h1") == "Log in", "the form")
    assert server.changed[-1] == ("DELETE", "/v1/session", None, "a-word")
    assert browser.text(".wrong") == ""


def test_purpose_and_case_are_asked_for_before_anything_is_shown(browser: Any, server: Any):
    server.session, server.people = None, {"AB12CD34": seen_from_both()}
    server.offered = server.offered | {"purpose_required": True}
    browser.open(server.address)
    eventually(lambda: browser.count(".sheet"), "the form")
    fill(browser, token=TOKEN)
    eventually(lambda: "looking for" in browser.text("h1"), "the other form")
    assert not any("/v1/identities" in path for path in server.asked)
    fill(browser, purpose="theft", case=" ")
    fill(browser, purpose="theft", case="2026-17")
    eventually(lambda: browser.text(".connection") == "Live", "the page is live")
    said = {"purpose": "theft", "case": "2026-17"}
    assert [each for each in server.changed if each[0] == "PUT"] == [
        ("PUT", "/v1/session/purpose", said, "a-word")
    ]
    assert "case 2026-17" in browser.text("#status")


NOTE_STATES = """
  window.states = [];
  new MutationObserver(() => window.states.push(document.querySelector('.connection')?.textContent))
    .observe(document.getElementById('status'), {childList: true, subtree: true})"""


def test_a_session_that_is_taken_back_is_not_said_to_be_a_server_that_is_gone(
    browser: Any, server: Any
):
    """Its stream of events ends with it, as it does with the server."""
    server.session = server.offered
    show(browser, server)
    browser.run(NOTE_STATES)
    server.session = None
    server.end_streams()
    eventually(lambda: "Your session has ended" in browser.text(".wrong"), "the form")
    assert "Server gone" not in browser.run("return window.states")
    assert "Locked" in browser.run("return window.states")


def test_purpose_and_case_without_a_session_to_keep_them_lead_to_the_log_in(
    browser: Any, server: Any
):
    """The form asked for both for ever: nobody was logged in of whom they could be kept."""
    server.session = OPEN | {"purpose_required": True}
    server.offered = server.offered | {"purpose_required": True}
    browser.open(server.address)
    eventually(lambda: browser.count(".sheet"), "the form")
    assert browser.text("h1") == "Log in"
    assert "log in with a token" in browser.text(".wrong")
    fill(browser, token=TOKEN)
    eventually(lambda: "looking for" in browser.text("h1"), "the other form")
    fill(browser, purpose="theft", case="2026-17")
    eventually(lambda: browser.text(".connection") == "Live", "the page is live")


def test_the_clock_stays_at_the_right_of_the_first_line_however_much_is_said(
    browser: Any, server: Any
):
    server.session = server.offered | {
        "purpose_required": True, "purpose": "theft", "case": "2026-17-and-a-long-number-of-a-case",
    }  # fmt: skip
    server.notice = "RENDERED WORLD, NOT PEOPLE"
    server.ready["wait"] = {"device": "dev-cam1", "by_s": 2.5, "late": ["dev-cam6", "dev-cam7"]}
    show(browser, server)
    eventually(lambda: browser.text(".connection") == "Live", "the page is live")
    where = browser.run("""
      const box = (name) => document.querySelector(name).getBoundingClientRect();
      const [bar, clock, brand] = ['#status', '.clock', '.brand'].map(box);
      const places = [bar.right - clock.right, clock.top - brand.top];
      return [...places, clock.height, brand.height, bar.height]
    """)
    right, down, height, line, bar = where
    assert bar > 2 * line  # there are several lines
    assert 0 <= right < 20
    assert abs(down) < line
    assert height < 2 * line
