"""The whole chain as real processes: mosquitto, the server, one edge process per camera."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from chain import Chain
from clip import clip_chain


@pytest.fixture
def make_chain(tmp_path: Path) -> Iterator[Callable[..., Chain]]:
    """Makes chains that are stopped at the end of the test, whatever happens."""
    made: list[Chain] = []

    def make(clip: Path, **options: object) -> Chain:
        chain = clip_chain(clip, tmp_path / f"chain{len(made)}", **options)  # type: ignore[arg-type]
        made.append(chain)
        return chain

    yield make
    for chain in made:
        chain.stop()
