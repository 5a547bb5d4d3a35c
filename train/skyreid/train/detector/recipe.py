"""The recipe of a detector: everything a training run depends on besides its clips."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from skyreid.contract.settings import check, read_table
from skyreid.train.detector.crops import CropRules
from skyreid.train.models.heatmap import DetectorConfig
from skyreid.train.options import Options


class DetectorRecipe(Options):
    """A training run of the detector."""

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
    model: DetectorConfig = DetectorConfig()
    crops: CropRules = CropRules()


def read_recipe(path: Path) -> DetectorRecipe:
    """The recipe in a TOML file; raises `SettingsError` with every bad key in one line."""
    return check(DetectorRecipe, read_table(path, "recipe"), f"recipe {path}")
