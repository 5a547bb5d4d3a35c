import numpy as np
from numpy.typing import NDArray

from skyreid.export.batched import run_all


def test_every_picture_is_run_once_in_its_place_and_the_last_batch_may_be_short() -> None:
    pictures = np.arange(7, dtype=np.uint8).reshape(7, 1, 1, 1)
    sizes = []

    def run(some: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        sizes.append(len(some))
        values = some.reshape(-1, 1).astype(np.float32)
        return {"one": values, "two": 2 * values}

    found = run_all(run, pictures, 3, what="test")
    assert sizes == [3, 3, 1]
    np.testing.assert_array_equal(found["one"][:, 0], np.arange(7))
    np.testing.assert_array_equal(found["two"], 2 * found["one"])
