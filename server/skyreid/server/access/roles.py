"""Roles, and the one table that says what each route asks for: least role, and audit's word.

A route that is not in here does not start (`web.gate` holds the table against the application's
routes), and a path without a route is for nobody without a log-in.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import IntEnum
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl

PUBLIC = None
"""Asked by whoever comes: nothing about people, devices or places is in it."""


class Role(IntEnum):
    """Each may what those before may."""

    VIEWER = 1
    """Looks at the live page, and at what is on it."""
    OPERATOR = 2
    """Searches, pages through what was, and says who did not come back."""
    OFFICER = 3
    """Data protection: erases."""
    ADMIN = 4
    """Sees who has a token, and takes one back."""

    @property
    def word(self) -> str:
        """As it is written."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role of a word.

        Raises:
            ValueError: it is none.
        """
        for role in cls:
            if role.word == word:
                return role
        raise ValueError(f"{word!r} is no role: {', '.join(role.word for role in cls)}")


class Rule(NamedTuple):
    """What a route asks for."""

    least: Role | None
    """None: `PUBLIC`."""
    act: str = ""
    """The audit log's word for it; "" = what is in it is about nobody. ``watch`` is written down
    once in ten minutes for each who asks, everything else each time."""
    bounded: Literal["", "search", "picture"] = ""
    """What of it a token may have in a minute is bounded."""


RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/"): Rule(PUBLIC),
    ("GET", "/page"): Rule(PUBLIC),  # its files
    ("GET", "/healthz"): Rule(PUBLIC),
    ("POST", "/v1/session"): Rule(PUBLIC, "login"),
    ("GET", "/v1/session"): Rule(Role.VIEWER),
    ("PUT", "/v1/session/purpose"): Rule(Role.VIEWER),
    ("DELETE", "/v1/session"): Rule(Role.VIEWER, "logout"),
    ("GET", "/v1/openapi.json"): Rule(Role.VIEWER),
    ("GET", "/v1/site"): Rule(Role.VIEWER),
    ("GET", "/v1/devices"): Rule(Role.VIEWER),
    ("GET", "/readyz"): Rule(Role.VIEWER),
    ("GET", "/metrics"): Rule(Role.VIEWER),
    ("GET", "/v1/identities"): Rule(Role.VIEWER, "watch"),
    ("GET", "/v1/sightings"): Rule(Role.VIEWER, "watch"),
    ("GET", "/v1/events"): Rule(Role.VIEWER, "watch"),
    ("GET", "/v1/identities/{identity}"): Rule(Role.VIEWER, "look"),
    ("POST", "/v1/identities/{identity}/return/undo"): Rule(Role.OPERATOR, "undo"),
    ("GET", "/v1/pictures/{device}/{boot}/{camera}/{track}"): Rule(
        Role.VIEWER, "picture", "picture"
    ),
    ("GET", "/v1/similar/{device}/{boot}/{camera}/{track}"): Rule(
        Role.OPERATOR, "search", "search"
    ),
    ("DELETE", "/v1/identities/{identity}"): Rule(Role.OFFICER, "erase"),
    ("DELETE", "/v1/tracklets/{device}/{boot}/{camera}/{track}"): Rule(Role.OFFICER, "erase"),
    ("GET", "/v1/erasures/{number}"): Rule(Role.OFFICER, "look"),
    ("GET", "/v1/tokens"): Rule(Role.ADMIN),
    ("DELETE", "/v1/tokens/{name}"): Rule(Role.ADMIN, "token"),
}
WITHOUT_PURPOSE = frozenset(("", "login", "logout", "token"))
"""Acts that are about nobody seen by a camera."""
BEYOND_THE_PAGE = {
    "/v1/identities": (("cursor",), "export"),
    "/v1/sightings": (("identity", "camera"), "search"),
    "/v1/events": (("after", "last-event-id"), "export"),
}
"""What a parameter, or a header, makes of watching: somebody is looked for, or everybody is paged
through. The live page gives none of them, and what it shows is what a viewer may have."""


def rule_of(rule: Rule, path: str, query: str, headers: Collection[str] = ()) -> Rule:
    """What a request of the route at ``path`` asks for, by names of what is given."""
    names, act = BEYOND_THE_PAGE.get(path, ((), ""))
    if not names:
        return rule
    given = {name for name, _ in parse_qsl(query, keep_blank_values=True)}.union(headers)
    return Rule(Role.OPERATOR, act, "search") if given.intersection(names) else rule
