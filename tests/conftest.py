"""Shared by all tests: where the evaluation material lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared evaluation material (``SKYREID_SHARED``, default ``../shared``).

    Users do not have it: the test is skipped. In CI its absence is a failure.
    """
    path = Path(os.environ.get("SKYREID_SHARED", ROOT.parent / "shared"))
    if path.is_dir():
        return path.resolve()
    reason = f"no evaluation material at {path}; set SKYREID_SHARED"
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What once broke a decoder comes first."""
    items.sort(key=lambda item: not item.path.is_relative_to(ROOT / "tests" / "corpus"))
