from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def theirs(needs_gst: None) -> None:
    """Their element is known; so is ours, for its room is imported."""
    from others import CALLS, register_theirs

    register_theirs()
    CALLS.clear()
