"""Mixed sources of training pictures: windows of rendered frames, and people pasted together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, model_validator

from skyreid.contract.errors import InputError
from skyreid.synth.pasted.composer import Composer
from skyreid.synth.pasted.rendition import degraded
from skyreid.synth.pasted.stock import is_stock, read_stock
from skyreid.train.detector.clips import People, UInt8
from skyreid.train.detector.crops import CropRules, Sample, Source, recolour, windows
from skyreid.train.options import Options


class Mix(Options):
    """Shares of the kinds of training pictures; they are divided by their sum."""

    rendered: float = Field(1.0, ge=0)
    """Windows of the frames of clips."""
    on_clutter: float = Field(0.0, ge=0)
    """Pasted people on procedural clutter."""
    on_empty: float = Field(0.0, ge=0)
    """Pasted people on real frames that show nobody."""
    empty: float = Field(0.0, ge=0)
    """Nobody at all."""
    rendered_degraded: float = Field(0.0, ge=0, le=1)
    """Part of the rendered windows that goes through the worse cameras of pasted pictures."""
    rendered_among: float = Field(0.0, ge=0, le=1)
    """Part of the rendered windows into which a few people and things are pasted too."""
    grounds: int = Field(300, ge=5)
    """Pictures of clutter that are drawn; each costs .6 MB, and 30 ms when it is first used."""

    @model_validator(mode="after")
    def _something_is_drawn(self) -> Mix:
        if self.rendered + self.on_clutter + self.on_empty + self.empty == 0:
            raise ValueError("every share of the mix is 0")
        return self

    @property
    def pastes(self) -> bool:
        """Whether a stock of cut-outs is needed."""
        return self.on_clutter + self.on_empty + self.empty + self.rendered_among > 0


def split_data(folders: Sequence[Path], mix: Mix) -> tuple[list[Path], Path | None]:
    """The clips of what was given as data, and the stock if the mix needs one.

    Raises:
        InputError: there is no stock where one is needed, or one too many.
    """
    stocks = [folder for folder in folders if is_stock(folder)]
    clips = [folder for folder in folders if folder not in stocks]
    if len(stocks) != mix.pastes:
        wanted = "one, made with `skyreid-train synth cutouts`" if mix.pastes else "none"
        raise InputError(
            f"--data names {len(stocks)} stocks of cut-outs, and by its [mix] the recipe takes "
            f"{wanted}"
        )
    return clips, stocks[0] if stocks else None


def open_source(
    frames: Sequence[tuple[UInt8, People]], stock: Path | None, rules: CropRules, mix: Mix
) -> Source:
    """What the mix draws from frames and from a stock.

    Raises:
        InputError: the stock cannot be read.
    """
    rendered = windows(frames, rules)
    if stock is None:
        return rendered
    composer = _composer(stock, rules, mix, held_out=False)

    def worse(random: np.random.Generator) -> Sample:
        sample = rendered(random)
        if random.random() < mix.rendered_among:
            sample = composer.among(random, sample)
        if random.random() < mix.rendered_degraded:
            sample = (degraded(random, sample[0]), *sample[1:])
        return sample

    return mixed(
        (worse, mix.rendered),
        (_recoloured(composer.on_clutter), mix.on_clutter),
        (_recoloured(composer.on_empty), mix.on_empty),
        (_recoloured(composer.empty), mix.empty),
    )


def held_out_pictures(stock: Path, rules: CropRules, mix: Mix, count: int) -> list[Sample]:
    """Pasted pictures of the people, things and grounds of a stock that are never trained on.

    None where the mix pastes people into rendered windows only: then the clips judge alone.
    """
    if mix.on_clutter + mix.on_empty == 0:
        return []
    composer = _composer(stock, rules, mix, held_out=True)
    draw = mixed(
        (composer.on_clutter, mix.on_clutter),
        (composer.on_empty, mix.on_empty),
        (composer.empty, mix.empty),
    )
    random = np.random.default_rng(0)
    return [draw(random) for _ in range(count)]


def mixed(*parts: tuple[Source, float]) -> Source:
    """One of several sources, each with its share; shares are divided by their sum."""
    sources = [source for source, _ in parts]
    shares = np.array([share for _, share in parts], np.float64)
    shares /= shares.sum()
    return lambda random: sources[int(random.choice(len(sources), p=shares))](random)


def _composer(stock: Path, rules: CropRules, mix: Mix, *, held_out: bool) -> Composer:
    grounds = mix.grounds // 5 if held_out else mix.grounds
    cutouts = read_stock(stock, held_out=held_out)
    return Composer(cutouts, side_px=rules.height_px, seed=int(held_out), grounds=grounds)


def _recoloured(source: Source) -> Source:
    def draw(random: np.random.Generator) -> Sample:
        picture, boxes, ignored = source(random)
        return recolour(picture, random), boxes, ignored

    return draw
