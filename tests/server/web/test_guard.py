"""Who gets an answer: by the name that was asked for, by the page that asks."""

from collections.abc import Callable

import pytest
from small_site import JPEG, Served


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example.com"}, 421),  # a name that was rebound to this address
        ({"host": "evil.example.com:8080"}, 421),
        ({"host": "127.0.0.1.evil.example.com"}, 421),
        ({"host": "localhost.evil.example.com"}, 421),
        ({"host": "evil@localhost"}, 421),
        ({"host": ""}, 421),
        ({"host": "localhost:8080"}, 200),
        ({"host": "192.168.1.7:8080"}, 200),
        ({"host": "[::1]:8080"}, 200),
        ({"host": "Matcher.LAN:8080"}, 200),
        ({"host": "matcher.lan."}, 200),
        ({"host": "localhost", "origin": "http://evil.example.com"}, 403),
        ({"host": "localhost", "origin": "null"}, 403),
        ({"host": "localhost", "origin": "http://localhost:9999"}, 403),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, 200),
        ({"host": "localhost", "origin": "https://matcher.lan"}, 200),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),  # a picture
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),  # a link
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_another_pages_host_or_origin_reads_no_identities_and_no_pictures(
    serve: Callable[..., Served], headers: dict[str, str], status: int
) -> None:
    served = serve()
    for path in ("/v1/identities", "/v1/pictures/uav1/1-a/cam1/7", "/"):
        got = served.get(path, headers)
        assert got.status_code == status
        assert got.headers["x-content-type-options"] == "nosniff"
        assert (JPEG in got.content) == (status == 200 and "pictures" in path)
