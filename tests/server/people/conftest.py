"""A site over hours."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hours import Site
from one_life import Life


@pytest.fixture
def site(life: Callable[..., Life], make: Any) -> Iterator[Site]:
    before = type(make).model
    yield Site(life, make)
    type(make).model = before
