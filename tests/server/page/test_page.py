"""The page in headless Chromium, against a server with canned answers."""

import json
import threading
import time
from typing import Any

import pytest
from canned import START_NS, eventually, identity, link, seen_from_both, show, track_key, tracklet


def pictures(browser: Any, name: str) -> list[dict[str, Any]]:
    script = """
      const card = document.querySelector(`.card[data-identity="${arguments[0]}"]`);
      return [...(card?.querySelectorAll(".picture") ?? [])].map(f => {
        const image = f.querySelector("img");
        const box = f.querySelector(".frame").getBoundingClientRect();
        return {view: f.classList.contains("aerial") ? "aerial" : "ground", text: f.innerText,
                width: image?.naturalWidth ?? 0, left: box.left, top: box.top};
      })"""
    found: list[dict[str, Any]] = browser.run(script, name)
    return found


def test_a_card_shows_both_pictures_side_by_side_and_says_why(browser: Any, server: Any):
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)

    eventually(lambda: all(p["width"] for p in pictures(browser, "AB12CD34")), "pictures load")
    aerial, ground = pictures(browser, "AB12CD34")
    assert (aerial["view"], ground["view"]) == ("aerial", "ground")
    assert (aerial["width"], ground["width"]) == (36, 64)
    assert aerial["top"] == ground["top"]
    assert aerial["left"] < ground["left"]
    card = browser.text(".card")
    for words in (
        "AB12 CD34",
        "97 % fairly high",
        "cam1 and cam6 because",
        "looks alike 0.71",
        "0.4 m apart at the same moment, clocks ± 0.2 s",
        "+2.4",
        "any of about 7 people",
        "−2.0",
        "23:13:20 – 23:13:28",
    ):
        assert words in card, words
    meter = "return document.querySelector('.card [role=meter]').getAttribute(arguments[0])"
    assert browser.run(meter, "aria-valuenow") == "97"
    assert browser.run(meter, "aria-valuetext") == "97 %, fairly high"


def test_an_event_adds_a_card_without_a_reload(browser: Any, server: Any):
    show(browser, server)
    assert "Nobody yet" in browser.text("#cards")
    browser.run("window.sameDocument = true")

    server.people["AB12CD34"] = seen_from_both()
    event = {"type": "assigned", "identity": "AB12CD34", "at_ns": START_NS}
    server.tell("identity", {**event, "tracks": [track_key("cam1", 3)]})

    eventually(lambda: browser.count(".card") == 1, "the card appears")
    assert "first seen in cam1" in browser.text("#feed")
    assert browser.run("return window.sameDocument") is True


def test_however_much_happens_the_page_asks_at_most_once_in_four_seconds(browser: Any, server: Any):
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)
    eventually(lambda: browser.count(".card") == 1, "the card appears")
    began, before = time.monotonic(), list(server.asked)
    for number in range(50):
        event = {"type": "assigned", "identity": f"AB12CD{number}", "at_ns": START_NS}
        server.tell("identity", {**event, "tracks": [track_key("cam1", 3)]})
        status = "offline" if number % 2 else "online"
        server.tell("devices", {"devices": [{"device": "dev-cam1", "status": status}]})
    asked = "/v1/identities?limit=200"
    eventually(lambda: server.asked.count(asked) > before.count(asked), "it asks again")
    eventually(lambda: "1 of 2 devices online" in browser.text("#status"), "what was told is shown")
    browser.run("document.querySelector('#status details').open = true")
    assert "15.5" not in browser.text("#status")
    server.tell("devices", {"devices": [{"device": "dev-cam1", "health": {"fps": 15.5}}]})
    eventually(lambda: "15.5" in browser.text("#status"), "without asking")
    rounds = server.asked.count(asked) - before.count(asked)
    assert rounds <= 1 + (time.monotonic() - began) / 4
    devices = [path for path in server.asked if path.startswith("/v1/devices")]
    assert len(devices) == 1, "what changed about devices came with the event"


def test_an_erased_identity_disappears(browser: Any, server: Any):
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)
    eventually(lambda: browser.count(".card") == 1, "the card appears")

    server.people.clear()
    server.tell("identity", {"type": "erased", "identity": "AB12CD34", "at_ns": START_NS})

    eventually(lambda: browser.count(".card") == 0, "the card is gone")
    assert browser.count(".person, .trail, .bar") == 0


def test_a_merged_identity_leaves_one_card(browser: Any, server: Any):
    founder = identity("AAAA0000", tracklet("cam1", 3))
    server.people = {"AAAA0000": founder, "BBBB1111": identity("BBBB1111", tracklet("cam6", 5))}
    show(browser, server)
    eventually(lambda: browser.count(".card") == 2, "two cards")

    server.people["AAAA0000"] = {**seen_from_both("AAAA0000"), "aliases": ["BBBB1111"]}
    server.people["BBBB1111"] = {**server.people["AAAA0000"], "merged_into": "AAAA0000"}
    event = {"type": "merged", "identity": "AAAA0000", "other": "BBBB1111", "at_ns": START_NS}
    server.tell("identity", event)

    eventually(lambda: browser.count(".card") == 1, "one card")
    eventually(lambda: "+1 merged" in browser.text(".card"), "it names its alias")


def test_when_the_server_goes_the_page_says_so_and_comes_back_by_itself(browser: Any, server: Any):
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)

    server.stop()

    eventually(lambda: "The server is gone" in browser.text("#banner"), "the banner")
    assert browser.text(".connection") == "Server gone"
    assert browser.count(".card") == 1, "what was known stays"
    server.people["EF56GH78"] = identity("EF56GH78", tracklet("cam6", 9))
    server.start()
    eventually(lambda: browser.text(".connection") == "Live", "it reconnects")
    eventually(lambda: browser.count(".card") == 2, "it catches up")
    assert browser.text("#banner") == ""


def test_a_broker_that_is_away_is_told_apart_from_a_server_that_is_gone(browser: Any, server: Any):
    server.ready = {**server.ready, "ready": False, "broker_connected": False}
    browser.open(server.address)
    eventually(lambda: browser.text(".connection") == "Nothing arrives", "it is not called live")
    eventually(lambda: "broker is away" in browser.text("#banner"), "the banner")


def test_withheld_pictures_say_why(browser: Any, server: Any):
    server.pictures = "never"
    none: dict[str, Any] = {"picture": None, "picture_reason": "policy: never"}
    people = tracklet("cam1", 3, **none), tracklet("cam6", 5, match=link("cam1", 3), **none)
    server.people = {"AB12CD34": identity("AB12CD34", *people)}
    show(browser, server)

    eventually(lambda: len(pictures(browser, "AB12CD34")) == 2, "the card")
    assert all("policy: never" in p["text"] for p in pictures(browser, "AB12CD34"))
    assert "Pictures: never" in browser.text("#status")
    assert not [path for path in server.asked if path.startswith("/v1/pictures")]


def test_a_person_of_one_view_is_shown_smaller_and_claims_no_match(browser: Any, server: Any):
    server.people = {"EF56GH78": identity("EF56GH78", tracklet("cam6", 9))}
    show(browser, server)

    eventually(lambda: browser.count(".narrow .card") == 1, "the card")
    assert browser.count(".card [role=meter]") == 0
    assert len(pictures(browser, "EF56GH78")) == 1


def test_a_sure_pair_stays_sure_beside_a_link_that_is_not(browser: Any, server: Any):
    unsure = link("cam1", 3, state="tentative", probability=0.62)
    sure = tracklet("cam6", 5, match=link("cam1", 3))
    two = identity("AB12CD34", tracklet("cam1", 3), sure, tracklet("cam6", 8, match=unsure))
    server.people = {"AB12CD34": two}
    show(browser, server)

    eventually(lambda: browser.count(".card") == 1, "the card")
    card = browser.text(".card")
    assert "97 % fairly high" in card
    assert "1 more not sure yet" in card
    assert "1 more link, 62 %" in card
    assert browser.count(".card.tentative") == 0


def test_a_split_says_who_is_somebody_else(browser: Any, server: Any):
    show(browser, server)
    event = {"type": "split", "identity": "AB12CD34", "other": "EF56GH78", "at_ns": START_NS}

    server.tell("identity", {**event, "tracks": [track_key("cam6", 5)]})

    said = "cam6 is somebody else, now EF56 GH78"
    eventually(lambda: said in browser.text("#feed"), "the feed says it")


def test_filters_and_keys_choose_and_walk(browser: Any, server: Any):
    unsure = link("cam1", 4, state="tentative", probability=0.7)
    server.people = {
        "AB12CD34": seen_from_both(),
        "EF56GH78": identity("EF56GH78", tracklet("cam6", 9)),
        "JK90MN12": identity("JK90MN12", tracklet("cam1", 4), tracklet("cam6", 7, match=unsure)),
    }
    show(browser, server)
    eventually(lambda: browser.count(".card") == 3, "everyone")

    browser.press("2")
    eventually(lambda: browser.count(".card") == 2, "both views only")
    browser.press("3")
    eventually(lambda: browser.count(".card") == 1, "tentative only")
    assert "not sure yet" in browser.text(".card.tentative")
    assert "70 % more likely one person than two" in browser.text(".card")
    browser.press("1")
    eventually(lambda: browser.count(".card") == 3, "everyone again")
    order = browser.run(
        "return [...document.querySelectorAll('.card')].map(card => card.dataset.identity)"
    )
    focused = "return document.activeElement.dataset.identity"
    for expected in order[:2]:
        browser.press("j")
        eventually(
            lambda want=expected: bool(browser.run(focused) == want),
            f"{expected} has the focus",
        )


def test_a_card_and_the_plan_point_at_each_other(browser: Any, server: Any):
    server.people = {
        "AB12CD34": seen_from_both(),
        "EF56GH78": identity("EF56GH78", tracklet("cam6", 9)),
    }
    server.sightings = [
        {
            **track_key("cam6", 5),
            "captured_at_ns": START_NS + second * 10**9,
            "ground": {"east_m": 1.0 * second, "north_m": 0.0},
        }
        for second in range(4)
    ]
    show(browser, server)
    eventually(lambda: browser.count(".person") == 2, "two people on the plan")
    assert browser.count(".trail[data-identity=AB12CD34]") == 1
    assert browser.count(".camera") == 2
    assert browser.count(".person ~ .camera-name") == 2, "drawn over people"
    assert browser.count(".camera-name ~ .person") == 0
    assert browser.count(".timeline .bar") == 3

    browser.run("document.querySelector('.card[data-identity=AB12CD34]').focus()")

    eventually(lambda: browser.count(".person.pointed") == 1, "the plan shows the card's person")
    assert (
        browser.run("return document.querySelector('.person.pointed').dataset.identity")
        == "AB12CD34"
    )


def test_text_from_devices_is_never_markup(browser: Any, server: Any):
    evil = "<img src=x onerror=document.title='broken-into'>"
    server.devices[0]["device"] = evil
    server.people = {
        "AB12CD34": identity("AB12CD34", tracklet("cam1", 3, picture=None, picture_reason=evil))
    }
    show(browser, server)

    eventually(lambda: "<img src=x" in browser.text(".card"), "the text is shown as text")
    assert browser.run("return document.title") == "skyreid"
    assert browser.count("img[src=x]") == 0


def test_nothing_leaves_the_origin_and_the_console_stays_clean(browser: Any, server: Any):
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)
    eventually(lambda: all(p["width"] for p in pictures(browser, "AB12CD34")), "pictures load")

    messages = [json.loads(entry["message"])["message"] for entry in browser.log("performance")]
    asked = [
        m["params"]["request"]["url"]
        for m in messages
        if m["method"] == "Network.requestWillBeSent"
    ]
    assert any(url.endswith("/page/main.js") for url in asked)
    assert [url for url in asked if not url.startswith(server.address)] == []
    assert browser.log("browser") == []


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_runs_out_of_the_window(browser: Any, server: Any, width: int):
    server.people = {
        "AB12CD34": seen_from_both(),
        "EF56GH78": identity("EF56GH78", tracklet("cam6", 9)),
    }
    browser.resize(width, 800)
    show(browser, server)
    eventually(lambda: browser.count(".card") == 2, "the cards")

    assert browser.run("return document.documentElement.scrollWidth") <= width
    edges = (
        "return [...document.querySelectorAll('.card *')].map(e => e.getBoundingClientRect().right)"
    )
    assert max(browser.run(edges)) <= width


def test_a_better_picture_takes_the_place_of_the_last_once_it_is_there(browser: Any, server: Any):
    may_come = threading.Event()
    server.people = {"AB12CD34": seen_from_both()}
    show(browser, server)
    loaded = "return [...document.querySelectorAll('.card img')].filter(i => i.naturalWidth).length"
    eventually(lambda: browser.run(loaded) == 2, "both pictures load")
    at_once, asked = server.picture, []

    def later(path: str, view: str) -> bytes:
        asked.append(path)
        assert may_come.wait(30)
        return bytes(at_once(path, view))

    server.picture = later
    better = seen_from_both()
    for each in better["tracklets"]:
        each["revision"] = 3
    server.people = {"AB12CD34": better}
    server.tell("identity", {"type": "assigned", "identity": "AB12CD34", "tracks": []})
    eventually(lambda: len(asked) == 2, "the better ones are asked for")
    assert browser.run(loaded) == 2
    may_come.set()
    shown = "return [...document.querySelectorAll('.card img')].map(i => i.src).join()"
    eventually(lambda: browser.run(shown).count("revision=3") == 2, "they are shown")
    assert browser.run(loaded) == 2
