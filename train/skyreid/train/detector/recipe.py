"""The recipe of a detector: everything a training run depends on besides its clips."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tomllib
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from skyreid.contract.errors import SettingsError
from skyreid.contract.settings import explain


class Widths(BaseModel):
    """The trunk's channels at stride 2, 4, 8 and 16."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    stem: int = Field(16, ge=1)
    quarter: int = Field(32, ge=1)
    eighth: int = Field(48, ge=1)
    sixteenth: int = Field(96, ge=1)
    dilations: tuple[int, ...] = (2, 4)
    """One residual block each, at stride 16."""


class Crops(BaseModel):
    """Random windows of frames."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    height_px: int = Field(320, multiple_of=16)
    width_px: int = Field(320, multiple_of=16)
    scale: tuple[float, float] = (0.7, 1.4)
    """The frame is resized by a factor from this range before the window is cut."""
    on_person: float = Field(0.7, ge=0, le=1)
    """Chance that the window is laid over a person."""
    hidden_below: float = Field(0.3, ge=0, le=1)
    """People with less visibility are neither positive nor negative."""


class DetectorRecipe(BaseModel):
    """A training run of the detector."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    kind: Literal["detector"]
    seed: int = 1
    steps: int = Field(2500, ge=1)
    batch: int = Field(12, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    """Highest rate of AdamW; linear warm-up over the first 5 %, then a cosine to 1 % of it."""
    weight_decay: float = Field(1e-4, ge=0)
    box_weight: float = Field(2.0, ge=0)
    """Of the box loss against the heat loss."""
    average_decay: float = Field(0.998, ge=0, lt=1)
    """Of the running average of the weights, which is what is validated and kept."""
    frame_step: int = Field(2, ge=1)
    """Every n-th frame of the training clips is used; neighbours show nearly the same."""
    validation_clips: int = Field(1, ge=1)
    """So many clips, the last ones, are not trained on: they choose checkpoint and threshold."""
    validate_every: int = Field(250, ge=1)
    """Steps between two validations."""
    validation_step: int = Field(8, ge=1)
    """Every n-th frame of the validation clips is used."""
    model: Widths = Widths()
    crops: Crops = Crops()


def read_recipe(path: Path) -> DetectorRecipe:
    """The recipe in a TOML file; raises `SettingsError` with every bad key in one line."""
    try:
        values = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such recipe") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from None
    try:
        return DetectorRecipe.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"{path}: {explain(DetectorRecipe, error)}") from None
