"""A recipe: everything that decides how a network is trained, as one TOML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Discriminator,
    Field,
    Strict,
    Tag,
    model_validator,
)

from skyreid.contract.input_spec import InputSpec
from skyreid.contract.settings import check, read_table
from skyreid.train.data.augment import Strength
from skyreid.train.models.clip_text import PromptOptions
from skyreid.train.models.losses import LossOptions
from skyreid.train.options import Options, overridden


class ModelSection(Options):
    """Which network."""

    variant: str
    """`{method}-{width}`, see docs/models.md."""
    trunk: dict[str, int | float | str | list[int]] = Field(default_factory=dict)
    """Fields of `skyreid.train.models.vit.TrunkConfig` that differ from the variant's."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Fields of the method's options that differ from the published ones."""


class BatchSection(Options):
    """What one step sees."""

    people: int = Field(16, ge=2)
    """People in a batch."""
    crops: int = Field(4, ge=2)
    """Crops of each person."""
    balance_views: bool = True
    """Half of a person's crops are aerial, half ground, where there are both."""
    passes: bool = False
    """People come as in the published code: at random until their pictures are used up, so that
    who has more comes more often, instead of by turns. Needs balance_views = false, group = 1."""
    group: int = Field(1, ge=1)
    """Size of the groups of look-alikes in half of a batch; 1 draws people independently."""
    group_after: float = Field(0.2, ge=0.0, le=1.0)
    """Share of the run after which groups begin: before, the classifier knows no look-alikes."""

    @model_validator(mode="after")
    def _passes_draw_freely(self) -> BatchSection:
        if self.passes and (self.balance_views or self.group > 1):
            raise ValueError("passes = true needs balance_views = false and group = 1")
        return self

    @model_validator(mode="after")
    def _batches_can_be_drawn(self) -> BatchSection:
        if self.balance_views and self.crops % 2:
            raise ValueError(
                f"crops = {self.crops} cannot be half aerial and half ground; take an even number "
                "or balance_views = false"
            )
        if self.group > self.people:
            raise ValueError(
                f"group = {self.group} is more than the {self.people} people of a batch"
            )
        return self


class AdamwSection(Options):
    """AdamW with a linear warm-up and a cosine to zero over the run; what small models train with.

    Matrices and kernels decay; norms, biases, tokens and positions do not.
    """

    kind: Literal["adamw"] = "adamw"
    """Which optimiser this is."""
    learning_rate: float = Field(1e-3, gt=0.0)
    """At the end of the warm-up."""
    weight_decay: float = Field(0.05, ge=0.0)
    """Of matrices and kernels."""
    warmup_steps: int = Field(300, ge=0)
    """Steps of linear growth from zero."""
    clip_norm: float = Field(5.0, gt=0.0)
    """Largest L2 norm of all gradients together."""
    average_decay: float = Field(0.998, ge=0.0, lt=1.0)
    """Decay per step of the averaged weights, which are evaluated and kept; 0 turns it off."""


class SgdSection(Options):
    """SGD as the aerial-ground methods are published with; the defaults are theirs.

    Warm-up by step, then a cosine that takes one value an epoch. An epoch is as many steps as
    whole batches fit into the pictures.
    """

    kind: Literal["sgd"]
    """Which optimiser this is."""
    learning_rate: float = Field(0.008, gt=0.0)
    """At the end of the warm-up, of all parameters."""
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    """Without Nesterov's look ahead."""
    weight_decay: float = Field(1e-4, ge=0.0)
    """Of weights, tokens, positions and classifiers."""
    bias_decay: float = Field(5e-4, ge=0.0)
    """Of biases and of every parameter of a norm."""
    warmup_steps: int = Field(2000, ge=0)
    """Steps of linear growth."""
    warmup_factor: float = Field(0.01, gt=0.0, le=1.0)
    """Share of `learning_rate` the growth begins at."""
    last_rate: float = Field(1.6e-6, ge=0.0)
    """Learning rate of the last epoch."""
    clip_norm: float = Field(5.0, gt=0.0)
    """Largest L2 norm of the gradients, of the parameters of each decay by themselves."""
    average_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """As in `AdamwSection`; 0 as published."""


class AdamSection(Options):
    """Adam with rates that fall at milestones, as CLIP-ReID's second stage is published."""

    kind: Literal["adam"]
    """Which optimiser this is."""
    learning_rate: float = Field(5e-6, gt=0.0)
    """Between warm-up and first milestone."""
    bias_factor: float = Field(2.0, gt=0.0)
    """Of the learning rate, for biases."""
    weight_decay: float = Field(1e-4, ge=0.0)
    """Added to every gradient, as Adam does, not AdamW."""
    warmup_epochs: int = Field(10, ge=0)
    """Epochs of linear growth."""
    warmup_factor: float = Field(0.1, gt=0.0, le=1.0)
    """Share of `learning_rate` the growth begins at."""
    milestones: Annotated[tuple[int, ...], Strict(False)] = (30, 50)
    """Epochs, from 1, with which the rate is multiplied by `milestone_factor` once more."""
    milestone_factor: float = Field(0.1, gt=0.0, le=1.0)
    """See `milestones`."""
    clip_norm: float | None = Field(None, gt=0.0)
    """Largest L2 norm of all gradients together; none is published."""
    average_decay: float = Field(0.0, ge=0.0, lt=1.0)
    """As in `AdamwSection`; 0 as published."""


OptimiserSection = AdamwSection | SgdSection | AdamSection


def _optimiser_kind(value: object) -> object:
    """Which of the sections a table or a section is; AdamW where it does not say."""
    if isinstance(value, dict):
        return value.get("kind", "adamw")
    return getattr(value, "kind", None)


class DistilSection(Options):
    """How much a student listens to its teachers (`fit --teacher`)."""

    embedding_weight: float = Field(1.0, ge=0.0)
    """Of the distance between its embeddings and the teacher's, through a learned map where the
    widths differ; 0 leaves it out."""
    distance: Literal["cosine", "l2"] = "cosine"
    """1 - cosine, or the squared distance of what the map gives to the teacher's unit vector."""
    relation_weight: float = Field(10.0, ge=0.0)
    """Of the mean squared difference between its cosines and the teacher's of all pairs of crops in
    a batch, half of it within views and half across them; 0 leaves it out."""


class RunSection(Options):
    """How long, and how the checkpoint to keep is chosen."""

    steps: int | None = Field(None, gt=0)
    """Optimiser steps of the whole schedule; or else `epochs`."""
    epochs: int | None = Field(None, gt=0)
    """The same in epochs, of as many steps as whole batches fit into the pictures."""
    stop_after: int | None = Field(None, gt=0)
    """Steps after which to stop in the middle of the schedule, for a first stage of training."""
    seed: int = Field(0, ge=0)
    """Of initialisation, sampling and augmentation."""
    evaluate_every: int = Field(500, gt=0)
    """Steps between two evaluations on what is held out."""
    save_every: int = Field(500, gt=0)
    """Steps between two states a killed run goes on from; every evaluation keeps one too. A state
    is four times the size of the network: 1.4 GB for a ViT-B."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """What the trunk multiplies in; necks, losses and evaluation stay in fp32."""
    accumulate: int = Field(1, ge=1)
    """Parts of a batch that go through the trunk one after another, for less memory; the gradient
    is the whole batch's, for one forward pass more. Not with batch norms in the trunk."""
    recompute: bool = False
    """Blocks are computed once more on the way back instead of remembered, for less memory."""
    time_limit_s: float | None = Field(None, gt=0.0)
    """Seconds after which the schedule is considered finished, for a machine shared with others.

    The learning rate follows the larger of the shares of steps and of time that have passed, so
    that the cosine always ends at zero. A run that hits it depends on the machine's speed.
    Schedules that count epochs (`sgd`, `adam`) cannot be shortened so.
    """

    @model_validator(mode="after")
    def _one_length(self) -> RunSection:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("exactly one of run.steps and run.epochs says how long it takes")
        return self


class PeopleRunSection(RunSection):
    """The run of an embedder."""

    held_out_people: int = Field(20, ge=0)
    """People of the training split that choose the checkpoint and are never trained on. With 0
    everybody is trained on, the last checkpoint is the best one and there are no score priors."""
    people: int | None = Field(None, ge=2)
    """Train on this many people only, drawn by `seed` from those that are not held out.

    A classifier of thousands of rows hardly starts from random weights (docs/LOG.md): a first stage
    on a few hundred people teaches the trunk, and a second one starts from it with everybody.
    """
    rows_from_means: bool = False
    """With `--start` and other people than the start's: each person's row of the classifier begins
    as the mean of what the start makes of the person's pictures, instead of at random, so that the
    first steps do not undo what the trunk knows. Of methods with one head."""

    @model_validator(mode="after")
    def _one_finds_nobody(self) -> PeopleRunSection:
        if self.held_out_people == 1:
            raise ValueError(
                "run.held_out_people = 1: one alone finds nobody; take 0, or 2 and more"
            )
        return self


class TrainingRecipe(Options):
    """What every recipe has, whatever it trains."""

    optimiser: Annotated[
        Annotated[AdamwSection, Tag("adamw")]
        | Annotated[SgdSection, Tag("sgd")]
        | Annotated[AdamSection, Tag("adam")],
        Discriminator(_optimiser_kind),
    ] = AdamwSection()
    run: RunSection

    @model_validator(mode="after")
    def _epochs_take_their_time(self) -> TrainingRecipe:
        if self.optimiser.kind != "adamw" and self.run.time_limit_s is not None:
            raise ValueError(
                f"run.time_limit_s cannot shorten the schedule of {self.optimiser.kind}, which "
                'counts epochs; leave it out or take optimiser.kind = "adamw"'
            )
        return self


class Recipe(TrainingRecipe):
    """The training run of an embedder, apart from where the data lie."""

    model: ModelSection
    input: InputSpec
    loss: LossOptions = LossOptions()
    batch: BatchSection = BatchSection()
    augment: Strength = Strength()
    prompts: PromptOptions = PromptOptions()
    distil: DistilSection | None = None
    run: PeopleRunSection


def read(path: Path, words: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: of the file.
        words: of the command line that set other values, see `options.overridden`.

    Raises:
        SettingsError: naming every key that is wrong.
    """
    return check(Recipe, overridden(read_table(path, "recipe"), words), f"recipe {path}")
