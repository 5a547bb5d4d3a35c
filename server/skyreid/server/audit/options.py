"""``[audit]`` of the settings: what is asked of who looks, how long it is kept, where heads go."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from skyreid.contract.settings import Section


class AuditOptions(Section):
    """The audit log."""

    purpose_required: bool = False
    """Whoever asks about people says what for, and the number of the case: the headers
    ``Skyreid-Purpose`` and ``Skyreid-Case``, and on the page a form."""
    keep_d: float = Field(365.0, ge=1, le=36_500)
    """Days for which a line is kept."""
    max_mb: int = Field(1_000, ge=16)
    """Megabytes kept; the oldest lines go first, and a line says so."""
    head_to: Literal["topic", "file", "syslog"] = "topic"
    """Where the head of the chain goes each minute, off this machine: the broker's topic
    ``audit/head``, a file (of another machine), or syslog."""
    head_file: Path | None = None
    """The file, with ``head_to = "file"``; relative to the settings file."""

    @model_validator(mode="after")
    def _fits_together(self) -> AuditOptions:
        if (self.head_to == "file") != (self.head_file is not None):
            raise ValueError('head_file and head_to = "file" go together: give both, or neither')
        return self
