from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from outbox_bench import Bench

from skyreid.contract.sighting import ModelRef
from skyreid.edge.delivery.rows import Row


@pytest.fixture
def bench(
    tmp_path: Path,
    model: ModelRef,
    row: Callable[[int], Row],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Bench]:
    made = Bench(tmp_path / "s.db", model, row)
    monkeypatch.setattr("skyreid.edge.delivery.spool_file.running_ns", made.wall_ns)
    made.open()
    yield made
    made.spool.close()
