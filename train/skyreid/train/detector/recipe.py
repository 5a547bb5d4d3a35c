"""The recipe of a detector: everything a training run depends on besides its clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from skyreid.contract.settings import check, read_table
from skyreid.train.detector.crops import CropRules
from skyreid.train.detector.sources import Mix
from skyreid.train.models.heatmap import DetectorConfig
from skyreid.train.options import overridden
from skyreid.train.recipe import TrainingRecipe


class DetectorRecipe(TrainingRecipe):
    """A training run of the detector."""

    kind: Literal["detector"]
    batch: int = Field(12, ge=1)
    """Pictures a step."""
    box_weight: float = Field(2.0, ge=0)
    """Of the box loss against the heat loss."""
    frame_step: int = Field(2, ge=1)
    """Every n-th frame of the training clips is used; neighbours show nearly the same."""
    validation_clips: int = Field(1, ge=1)
    """So many clips, the last ones, are not trained on: they choose checkpoint and threshold."""
    validation_step: int = Field(8, ge=1)
    """Every n-th frame of the validation clips is used."""
    half_from_px: int = Field(0, ge=0)
    """Of the bundle, see `skyreid.bundle.manifest.DetectorSpec`; evaluation does the same."""
    half_height_px: int = Field(0, ge=0)
    """The same."""
    model: DetectorConfig = DetectorConfig()
    crops: CropRules = CropRules()
    mix: Mix = Mix()
    held_out_pictures: int = Field(240, ge=1)
    """Pasted pictures that judge a network beside the clips, and choose the threshold, if any are
    trained on."""

    @model_validator(mode="after")
    def _pasted_pictures_are_square(self) -> DetectorRecipe:
        if self.mix.pastes and self.crops.height_px != self.crops.width_px:
            raise ValueError(
                f"crops of {self.crops.height_px} x {self.crops.width_px} px: pasted pictures are "
                "square"
            )
        return self


def read_recipe(path: Path, words: Sequence[str] = ()) -> DetectorRecipe:
    """The recipe in a TOML file, and `words` that override it (`options.overridden`).

    Raises:
        SettingsError: with every bad key in one line.
    """
    table = overridden(read_table(path, "recipe"), words)
    return check(DetectorRecipe, table, f"recipe {path}")
