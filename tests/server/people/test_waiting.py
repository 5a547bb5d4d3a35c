"""Who waits to be asked for, and how much of a writer's time that takes."""

import pytest
from hours import Site

from skyreid.server.people.waiting import ASK_AFTER_NS, BUDGET, Waiting

QUESTION_S = 0.018


class Clocks:
    """A thread whose time passes as told, and of which a question takes some."""

    def __init__(self) -> None:
        self.now_s = self.spent_s = 0.0
        self.asked: list[str] = []
        self.waiting = Waiting(lambda: self.now_s, lambda: self.spent_s)

    def ask(self, name: str) -> bool:
        if name.startswith("gone"):
            return False
        self.now_s += 2 * QUESTION_S  # somebody else has the CPU for half of it
        self.spent_s += QUESTION_S
        self.asked.append(name)
        return True

    def turn(self, now_ns: int = ASK_AFTER_NS, everything: bool = False, live: bool = True) -> None:
        self.waiting.turn(now_ns, self.ask, everything=everything, live=live)

    def fill(self, count: int) -> list[str]:
        names = [f"p{k}" for k in range(count)]
        for k, name in enumerate(names):
            self.waiting.touch(name, k - count)
        return names


def test_asking_takes_a_tenth_of_the_time_oldest_first_and_forgets_nobody() -> None:
    site = Clocks()
    names = site.fill(500)
    for late in names[100:200]:  # touched again: still as old
        site.waiting.touch(late, 0)
    waited = [0.0]
    while site.waiting.due or not site.asked:
        before_s = site.now_s
        site.turn()
        waited.append(site.now_s - before_s)
        site.now_s += 0.002  # the writer's other work
        assert site.spent_s <= QUESTION_S + BUDGET * site.now_s
        if len(site.asked) == 50:
            site.waiting.touch("late", 0)
    assert site.asked == [*names, "late"]
    assert max(waited) == pytest.approx(2 * QUESTION_S)  # no event waits behind two
    assert site.spent_s > 0.9 * BUDGET * site.now_s  # nor is the budget left lying
    assert site.waiting.due == 0


def test_nobody_is_asked_before_their_time_and_who_is_gone_costs_nothing() -> None:
    site = Clocks()
    site.waiting.touch("early", 1)
    site.turn(ASK_AFTER_NS)
    assert (site.asked, site.waiting.due) == ([], 0)
    site.waiting.touch("gone", 0)
    site.turn(ASK_AFTER_NS + 1)
    assert site.asked == ["early"]


@pytest.mark.parametrize("live", [True, False])
def test_where_nothing_else_is_to_be_done_there_is_no_budget(live: bool) -> None:
    site = Clocks()
    names = site.fill(20)
    site.turn()
    assert site.asked == names[:1]
    for turn in range(10):
        site.turn(everything=live, live=live)
        assert site.waiting.due == (max(0, 17 - 2 * turn) if live else 0)
    assert site.asked == names


def test_a_start_with_a_full_window_asks_one_by_one_and_says_how_many_wait(site: Site) -> None:
    people = site.now.writer.people
    site.crowd(range(15), 0.0)
    first = site.come(900, 460.0)
    people.options = people.options.model_copy(update={"returns": False})
    site.decide()
    site.begin()  # nobody was asked, and nothing in the log says that anybody was
    people = site.now.writer.people
    clocks = Clocks()
    asked: list[str] = []

    def ask(name: str) -> bool:
        asked.append(name)
        clocks.spent_s += QUESTION_S
        return real(name)

    real = people._ask
    people._ask = ask
    people.waiting._now_s = lambda: clocks.now_s
    people.waiting._spent_s = lambda: clocks.spent_s
    later_ns = site.now.writer.state.at_ns + ASK_AFTER_NS
    for turn in range(1, 4):
        people.turn(later_ns)
        people.turn(later_ns)  # at once again: not yet
        assert len(asked) == turn
        text = site.now.metrics.text()[0].decode()
        assert f"skyreid_returns_waiting {16 - turn}.0" in text
        clocks.now_s += 10 * QUESTION_S
    people.turn(later_ns, live=False)
    assert len(set(asked)) == len(asked) == 16
    assert site.who(first) in asked
    people.options = people.options.model_copy(update={"returns": False})
    people.waiting.due = 5
    assert "skyreid_returns_waiting 0.0" in site.now.metrics.text()[0].decode()


def test_who_has_an_answer_in_the_log_is_not_asked_again_in_the_next_life(site: Site) -> None:
    site.crowd(range(60), 0.0)
    site.come(900, 2000)
    again = site.come(900, 2000 + 3600)
    other = site.come(901, 2000 + 3605, "cam6")
    site.decide()
    assert site.link(again).state == "accepted"
    assert site.undo(again).state == "undone"
    site.begin()
    waiting = site.now.writer.people.waiting._times
    assert site.who(other) in waiting
    assert site.who(again) not in waiting
