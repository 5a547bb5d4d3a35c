"""The training loop, from pictures in memory to the checkpoint that was best on held-out people."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from skyreid.contract.errors import InputError
from skyreid.contract.input_spec import InputSpec
from skyreid.train import checkpoint, distil, optimise, priors, prompts
from skyreid.train.data import augment, pictures
from skyreid.train.data.records import ByReason, Record, spelled
from skyreid.train.data.sampler import PkSampler
from skyreid.train.embedding import embedded, served, with_torch
from skyreid.train.metrics import Score, score
from skyreid.train.models import variants
from skyreid.train.models.losses import LossOptions
from skyreid.train.models.method import Method
from skyreid.train.models.vit import TrunkConfig
from skyreid.train.recipe import DistilSection, Recipe

log = logging.getLogger(__name__)

BEST = "best.safetensors"
LAST = "last.safetensors"
SCORE_PRIORS = "score-priors.json"


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind.

    Attributes:
        best: the checkpoint with the highest (mAP + R1) / 2 over both cross-view directions on the
            held-out people.
        last: the checkpoint of the last step.
        score_priors: JSON for `skyreid-export bundle --score-priors`, of `best` on the held-out
            people.
        best_step: when `best` was taken.
        best_score: its value, a fraction.
        pictures_per_s: training pictures a second, evaluation included.
    """

    best: Path
    last: Path
    score_priors: Path
    best_step: int
    best_score: float
    pictures_per_s: float


def fit(
    recipe: Recipe,
    records: Sequence[Record],
    out: Path,
    *,
    cache: Path | None = None,
    start: Path | None = None,
    clip: Path | None = None,
    teachers: Sequence[Path] = (),
    refused: ByReason | None = None,
) -> Outcome:
    """Train a recipe on `records`; writes the checkpoints and the score priors to `out`.

    Args:
        recipe: what to train.
        records: the training split; some of its people are held out and choose the checkpoint.
        out: folder for the checkpoints.
        cache: folder for the resized pictures, see `pictures.load`; default is `out`.
        start: checkpoint whose weights to begin with; None draws them at random. Its classifier is
            kept where the people are the same ones.
        clip: weights of OpenAI's CLIP, with whose text side CLIP-ReID's prompts are learned first.
        teachers: checkpoints whose embeddings the network learns as well, see `distil`.
        refused: what the readers refused of the split; counts with the unreadable pictures.

    Raises:
        InputError: when the people are too few to hold some out, or more than 1 % of the pictures
            cannot be used.
        SettingsError: when `clip` or `teachers` are missing where they are needed, or `clip` is
            given where it is not.
    """
    torch.manual_seed(recipe.run.seed)
    rng = torch.Generator().manual_seed(recipe.run.seed)
    kept, held_out = hold_out(records, recipe.run.held_out_people, recipe.run.seed)
    kept = some_people(kept, recipe.run.people, recipe.run.seed)
    if len({r.person for r in kept}) < recipe.batch.people:
        raise InputError(
            f"{len({r.person for r in kept})} people are left for training and a batch needs "
            f"{recipe.batch.people}; lower run.held_out_people or batch.people"
        )
    spec = recipe.input
    loaded = pictures.load([*kept, *held_out], spec, cache or out, refused)
    if loaded.unreadable:
        log.warning("skipped %s", spelled({pictures.UNREADABLE: loaded.unreadable}))
    middle = loaded.left_of(len(kept))
    kept, held_out = list(loaded.records[:middle]), list(loaded.records[middle:])
    images = torch.from_numpy(loaded.images)
    held_out_images = images[len(kept) :]
    people, views = labels(kept)
    config = {
        **variants.variant(
            recipe.model.variant,
            height=spec.height,
            width=spec.width,
            people=int(people.max()) + 1,
            trunk=recipe.model.trunk,
            options=recipe.model.options,
        ),
        "recipe": recipe.model_dump(mode="json"),
        "held_out": sorted({r.person for r in held_out}),
        "pictures": len(kept),
    }
    network = variants.construct(config, LossOptions(**recipe.loss.model_dump()))
    if start is not None:
        begin_with(network, config, checkpoint.load(start))
    prompts.learn(
        network,
        images[: len(kept)],
        torch.from_numpy(people),
        clip=clip,
        spec=spec,
        section=recipe.prompts,
        seed=recipe.run.seed,
    )
    average = Average(network, recipe.optimiser.average_decay)
    trained: Method | distil.Distilled = network
    if teachers or recipe.distil:
        section = recipe.distil or DistilSection()
        taught_by = distil.read(teachers, config["held_out"], section)
        trained = distil.Distilled(network, taught_by, spec, section)
        config["teachers"] = [teacher.sha256 for teacher in taught_by]
    optimiser = optimise.build(trained, recipe.optimiser)
    sampler = PkSampler(
        people,
        views,
        people_per_batch=recipe.batch.people,
        crops_per_person=recipe.batch.crops,
        balance_views=recipe.batch.balance_views,
        passes=recipe.batch.passes,
        seed=recipe.run.seed,
    )
    strength = augment.Strength(**recipe.augment.model_dump())
    mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
    length = optimise.length(recipe.run, len(kept), recipe.batch.people * recipe.batch.crops)
    steps, limit_s = length.steps, recipe.run.time_limit_s
    people_t, views_t = torch.from_numpy(people), torch.from_numpy(views)

    best_step, best_score = 0, -1.0
    began = time.monotonic()
    step, seen = 0, 0
    progress = tqdm(total=steps, unit="step", smoothing=0.05, dynamic_ncols=True)
    for batch in sampler:
        spent_s = time.monotonic() - began
        share = max(step / steps, 0.0 if limit_s is None else spent_s / limit_s)
        if share >= 1 or step == recipe.run.stop_after:
            break
        step += 1
        seen += len(batch)
        rate = optimise.learning_rate(recipe.optimiser, length, step, share)
        optimise.set_rate(optimiser, rate)
        trained.train()
        index = torch.from_numpy(batch)
        normal = augment.augment(images[index], mean, std, strength, rng)
        terms = trained.losses(normal, people_t[index], views_t[index])
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimise.clip(optimiser, recipe.optimiser)
        optimiser.step()
        average.update(network)
        progress.update()
        if step % 20 == 0:
            values = " ".join(f"{name} {term.item():.3f}" for name, term in terms.items())
            progress.set_postfix_str(f"{seen / (time.monotonic() - began):.0f} pictures/s {values}")
            if recipe.batch.group > 1 and share >= recipe.batch.group_after:
                sampler.set_neighbours(
                    look_alikes(network.classifier_weight, recipe.batch.group - 1)
                )
        if step % recipe.run.evaluate_every == 0:
            results = cross_view(average.network, spec, held_out, held_out_images)
            value = selection_value(results)
            log.info("step=%d share=%.3f lr=%.2e %s", step, share, rate, _spelled(results, terms))
            if value > best_score:
                best_step, best_score = step, value
                _save(out / BEST, config, average.network, recipe, step)
            _save(out / LAST, config, average.network, recipe, step)
    progress.close()
    results = cross_view(average.network, spec, held_out, held_out_images)
    if (value := selection_value(results)) >= best_score:
        best_step, best_score = step, value
        _save(out / BEST, config, average.network, recipe, step)
    _save(out / LAST, config, average.network, recipe, step)
    rate_per_s = seen / (time.monotonic() - began)
    log.info("end step=%d best_step=%d %s", step, best_step, _spelled(results, {}))
    embed = with_torch(checkpoint.load(out / BEST))
    measured = priors.measure(embedded(embed, held_out, held_out_images.numpy()))
    (out / SCORE_PRIORS).write_text(json.dumps(measured, indent=2) + "\n")
    return Outcome(out / BEST, out / LAST, out / SCORE_PRIORS, best_step, best_score, rate_per_s)


PER_PERSON = (
    "heads.weight",
    "local_heads.weight",
    "classifier.weight",
    "classifier_proj.weight",
    "prompt_learner.cls_ctx",
)
"""Entries of the methods' state_dicts with a row for each person of the training set."""


def begin_with(
    network: nn.Module, config: Mapping[str, Any], source: checkpoint.Checkpoint
) -> None:
    """Copy the weights of `source` into `network`, which `config` describes.

    Rows for people are copied only where the people are the same ones. Converted weights were
    never fitted on people of ours, unless the authors of a method fitted them on the same data set:
    nobody can tell from the file, so that is said.

    Raises:
        InputError: when they are different networks, or when the source was fitted on people who
            are held out now: they could no longer choose a checkpoint.
    """
    if source.kind != "embedder" or _architecture(source.config) != _architecture(config):
        raise InputError("the checkpoint to start from holds another network than the recipe")
    origin = source.config.get("converted_from")
    same = origin is None and source.config["held_out"] == config["held_out"]
    if source.config["people"] == config["people"] and same:
        network.load_state_dict(source.state)
        return
    if origin == "authors":
        log.warning(
            "the start was fitted by a method's authors: on their data set's training split the "
            "held-out people were seen before, and choose a checkpoint less well"
        )
    elif origin is None and set(config["held_out"]) - set(source.config["held_out"]):
        raise InputError("the checkpoint to start from was fitted on people who are held out now")
    own = network.state_dict()
    body = {key: value for key, value in source.state.items() if key not in PER_PERSON}
    checkpoint.fill(network, {**body, **{key: own[key] for key in PER_PERSON if key in own}})


def _architecture(config: Mapping[str, Any]) -> tuple[Any, ...]:
    """What decides the entries of a state_dict, but for the number of people."""
    trunk = TrunkConfig(**config["trunk"])
    return config["method"], replace(trunk, drop_path=0.0)


def hold_out(records: Sequence[Record], count: int, seed: int) -> tuple[list[Record], list[Record]]:
    """Split off `count` people, drawn by `seed`: (kept, held out).

    Raises:
        InputError: when fewer than `count` + 2 people are there.
    """
    names = sorted({r.person for r in records})
    if len(names) < count + 2:
        raise InputError(
            f"{len(names)} people in the training data; holding out {count} leaves too few"
        )
    chosen = set(np.random.default_rng(seed).choice(names, count, replace=False).tolist())
    kept = [r for r in records if r.person not in chosen]
    return kept, [r for r in records if r.person in chosen]


def some_people(records: Sequence[Record], count: int | None, seed: int) -> list[Record]:
    """The records of `count` people, drawn by `seed`; all where it is None.

    Raises:
        InputError: when there are fewer.
    """
    names = sorted({r.person for r in records})
    if count is None:
        return list(records)
    if len(names) < count:
        raise InputError(f"run.people is {count}, but only {len(names)} people are left to fit")
    chosen = set(np.random.default_rng(seed).choice(names, count, replace=False).tolist())
    return [r for r in records if r.person in chosen]


def labels(records: Iterable[Record]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Classes int64 [N] (people in sorted order, from 0) and views int64 [N] (aerial 1)."""
    listed = list(records)
    _, people = np.unique([r.person for r in listed], return_inverse=True)
    views = np.asarray([r.view == "aerial" for r in listed], np.int64)
    return people.astype(np.int64), views


class Average:
    """Exponential moving average of a network's weights and running statistics.

    Polyak averaging (Tarvainen and Valpola, arXiv:1703.01780): worth a good part of the end of a
    learning rate schedule at any moment of it. The decay starts low, so that the random
    initialisation is forgotten early.
    """

    def __init__(self, network: Method, decay: float) -> None:
        self.network = copy.deepcopy(network).eval()
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move towards `network`'s present weights."""
        self._updates += 1
        decay = min(self._decay, self._updates / (self._updates + 10))
        for mine, theirs in zip(
            self.network.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


@torch.no_grad()
def look_alikes(classifier: Tensor, count: int) -> NDArray[np.int64]:
    """For each row of a classifier's `weight` [C, D] the `count` most similar other rows."""
    rows = F.normalize(classifier, dim=1)
    similarity = rows @ rows.T
    similarity.fill_diagonal_(-2)
    nearest: NDArray[np.int64] = similarity.topk(count, dim=1).indices.numpy()
    return nearest


def cross_view(
    network: Method, spec: InputSpec, held_out: Sequence[Record], images: Tensor
) -> dict[str, Score]:
    """A->G and G->A among the held-out people, every picture query and gallery alike.

    Where all pictures are of one view there is neither; they search each other's cameras: ALL.
    """
    embed = served(network, spec)
    everything = embedded(embed, held_out, images.numpy())
    if everything.aerial.all() or not everything.aerial.any():
        return {"ALL": score(everything, everything)}
    aerial, ground = everything.where(everything.aerial), everything.where(~everything.aerial)
    return {"A->G": score(aerial, ground), "G->A": score(ground, aerial)}


def selection_value(results: dict[str, Score]) -> float:
    """Mean of R1 and mAP over the protocols in `results`, as a fraction."""
    return float(np.mean([(s.rank1 + s.average_precision) / 2 for s in results.values()]))


def _spelled(results: dict[str, Score], terms: dict[str, Tensor]) -> str:
    parts = [
        f"{name}={100 * s.rank1:.1f}/{100 * s.average_precision:.1f}" for name, s in results.items()
    ]
    return " ".join([*parts, *(f"{name}={term.item():.3f}" for name, term in terms.items())])


def _save(
    path: Path, config: Mapping[str, Any], network: nn.Module, recipe: Recipe, step: int
) -> None:
    checkpoint.save(
        path,
        kind="embedder",
        config={**config, "step": step},
        state=network.state_dict(),
        input_spec=recipe.input,
    )
