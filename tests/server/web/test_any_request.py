"""Whatever is asked of whatever route stands in OpenAPI: an answer, and never a defect (500).

The short form, with a seed; ``bench/any_request.py`` has Schemathesis ask over the same description
for ten minutes.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_site import AIR, Served

from skyreid.server.access.roles import RULES, Role

LIVE = ("/v1/events",)
"""Goes on for ever where it is asked rightly; here only wrongly."""
ROUTES = sorted(
    (method, path) for method, path in RULES if path not in ("/", "/page", "/v1/openapi.json")
)
NAMES = ("reason", "limit", "view", "after_ns", "cursor", "identity", "camera", "k", "since_ns",
    "until_ns", "after", "x")  # fmt: skip
VALUES = st.one_of(
    st.text(max_size=40),
    st.integers(-(1 << 70), 1 << 70).map(str),
    st.sampled_from(
        ["", "0", "-1", "NaN", "1e400", "W10=", "null", "all", "aerial", "../..", "\x00"]
    ),
    st.sampled_from([AIR.identity_id(), "uav1", "1-a", "cam1", "7", "%", "%2f", "é", "\ud800"]),
)
BODIES = st.one_of(
    st.binary(max_size=60),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["token", "link", "purpose", "case"]), inner, max_size=3
            )
        ),
        max_leaves=5,
    ),
)


def spelled(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.parametrize("known", [True, False], ids=["with a token", "without"])
def test_no_request_is_a_defect_of_the_server(serve: Callable[..., Served], known: bool) -> None:
    served = serve(now_s=lambda: 0.0)
    token = served.tokens.create("ana", Role.ADMIN, 1)

    @settings(
        max_examples=150,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def ask(data: Any) -> None:
        method, path = data.draw(st.sampled_from(ROUTES))
        if path in LIVE and known:
            query = {"after": data.draw(st.sampled_from(["", "x", "1-", "-1", "1-1-1", "١-١"]))}
        else:
            query = data.draw(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=3))
        for name in ("identity", "device", "boot", "camera", "track", "number", "name"):
            path = path.replace(f"{{{name}}}", spelled(data.draw(VALUES)) or "-")
        if method == "DELETE":
            query.pop("reason", None)  # nobody carries an erasure out here
        pairs = [(n.encode(), v.encode("utf-8", "surrogatepass")) for n, v in query.items()]
        more: dict[str, Any] = {}
        if method in ("POST", "PUT"):
            body = data.draw(BODIES)
            more = {"content": body} if isinstance(body, bytes) else {"json": body}
            if "json" in more:
                more = {
                    "content": json.dumps(body),
                    "headers": {"Content-Type": "application/json"},
                }
        url = f"{path}?{urlencode(pairs)}"
        got = served.ask(method, url, token=token if known else "", **more)
        assert got.status_code < 500, (method, url, more, got.text)
        assert token not in got.text

    ask()
