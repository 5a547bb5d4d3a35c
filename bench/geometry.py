"""Whether an embedding gets better when it is told how the drone looked.

    python bench/geometry.py EMBEDDER --train RENDERED... --test RENDERED... [--json FILE]

On what an embedder makes of rendered crops a small head is trained, to tell the training people
apart: a linear map, then gain and offset of each channel as a small network says. Three arms differ
in what that network is told of a crop: nothing, its view, or its view with the camera's altitude
and pitch and the person's height in pixels. Same people, batches, steps and numbers to learn.

FNIR at FPIR 1 % on the test people, by drone: each crop of a drone is searched for among tracklets
of the street cameras, one a person and camera, each camera less its mean. Of the probe's family of
look-alikes nobody but the probe is there: they are another question, and alone would set the
threshold. Where the first arm misses nearly everybody or nobody, no difference can show, and that
is refused. Differences are means over seeds, their intervals over people, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from skyreid.bundle.embedder import Embedder
from skyreid.contract.errors import InputError, run_command
from skyreid.contract.input_spec import fit
from skyreid.contract.sighting import View
from skyreid.train.data import catalogue
from skyreid.train.data.pictures import read_rgb

ARMS = ("nothing", "view", "geometry")
FPIR = 0.01
CEILING = (0.02, 0.9)
STEPS, BATCH, RATE, SCALE, HIDDEN, DRAWS = 1500, 256, 1e-3, 16.0, 32, 300

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Rows:
    """Crops as an embedder sees them.

    Attributes:
        found: embeddings, float32 [N, D].
        people: int64 [N].
        families: int64 [N].
        cameras: int64 [N]; of several sets no two are equal.
        aerial: bool [N].
        told: float32 [N, 4], view, altitude, pitch and height, each about 0 to 1.
        drones: name of each aerial camera.
    """

    found: Floats
    people: Ints
    families: Ints
    cameras: Ints
    aerial: NDArray[np.bool_]
    told: Floats
    drones: dict[int, str]


def read(embedder: Embedder, folders: Sequence[Path], split: Literal["train", "test"]) -> Rows:
    """The crops of a split of rendered trees, embedded.

    Raises:
        InputError: one is none, or does not say how its cameras look.
    """
    people: list[tuple[int, int, int]] = []
    told: list[tuple[float, ...]] = []
    rows: list[Floats] = []
    drones: dict[int, str] = {}
    for number, folder in enumerate(folders):
        try:
            ids = json.loads((folder / "ids.json").read_text())
            cameras, crops = ids["cameras"], ids["crops"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                f"{folder}: no ids.json that states cameras, as skyreid-train synth crops writes it"
            ) from error
        family = {one["pid"]: one["family"] for one in ids["ids"]}
        data = catalogue.open(folder)
        records = data.train().records if split == "train" else data.test().records
        for start in range(0, len(records), 32):
            some = [fit(read_rgb(r.path), embedder.spec) for r in records[start : start + 32]]
            rows.append(embedder.embed(np.stack(some)))
        for record in records:
            person = int(record.path.stem.split("_")[2])
            look, camera = cameras[str(record.camera)], 100 * number + record.camera
            aerial = record.view == "aerial"
            height = crops[record.path.name]["box"][3]
            told.append(
                (
                    float(aerial),
                    np.log(look["altitude_m"]) / np.log(120),
                    -look["pitch_deg"] / 90,
                    np.log(height / 20) / np.log(50),
                )
            )
            people.append((10000 * number + person, 10000 * number + family[person], camera))
            if aerial:
                drones[camera] = f"{look['altitude_m']:.0f} m, {-look['pitch_deg']:.0f} degrees"
    whose = np.asarray(people, np.int64)
    return Rows(
        np.concatenate(rows),
        *whose.T,
        np.isin(whose[:, 2], list(drones)),
        np.asarray(told, np.float32),
        drones,
    )


class Head(nn.Module):
    """A linear map, then gain and offset of each channel by what is told; begins as nothing."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.map = nn.Linear(dim, dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)
        self.says = nn.Sequential(nn.Linear(4, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * dim))
        nn.init.zeros_(self.says[2].weight)
        nn.init.zeros_(self.says[2].bias)

    def forward(self, found: Tensor, told: Tensor) -> Tensor:
        """Embeddings [B, D] and what is told of them [B, 4] to unit vectors [B, D]."""
        gain, offset = self.says(told).chunk(2, dim=1)
        return F.normalize(self.map(found) * (1 + gain) + offset, dim=1)


def heard(rows: Rows, arm: str) -> Tensor:
    """What an arm is told, float32 [N, 4]."""
    told = torch.from_numpy(rows.told)
    keep = {"nothing": 0, "view": 1, "geometry": 4}[arm]
    return torch.cat([told[:, :keep], torch.zeros(len(told), 4 - keep)], dim=1)


def trained(rows: Rows, arm: str, seed: int, steps: int = STEPS) -> Head:
    """A head that tells the people of `rows` apart by a softmax over cosines."""
    torch.manual_seed(seed)
    found, told = torch.from_numpy(rows.found), heard(rows, arm)
    _, place = np.unique(rows.people, return_inverse=True)
    people = torch.from_numpy(place.reshape(-1))
    head = Head(found.shape[1])
    sums = torch.zeros(int(people.max()) + 1, found.shape[1]).index_add_(0, people, found)
    means = nn.Parameter(F.normalize(sums, dim=1))
    optimiser = torch.optim.AdamW([*head.parameters(), means], lr=RATE, weight_decay=0.01)
    random = np.random.default_rng(seed)
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = RATE * 0.5 * (1 + np.cos(np.pi * step / steps))
        some = torch.from_numpy(random.integers(0, len(found), BATCH))
        cosines = head(found[some], told[some]) @ F.normalize(means, dim=1).T
        loss = F.cross_entropy(SCALE * cosines, people[some], label_smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return head.eval()


def searched(rows: Rows, embedded: Floats) -> tuple[Floats, Floats, Ints]:
    """Of each aerial crop the best score of its person and of a stranger, and its row.

    Strangers are of other families.
    """
    gallery, whose = [], []
    unit = np.empty_like(embedded)
    for camera in np.unique(rows.cameras):
        mine = np.flatnonzero(rows.cameras == camera)
        if camera in rows.drones:
            unit[mine] = _centred(embedded[mine])
            continue
        names, first, place = np.unique(rows.people[mine], return_index=True, return_inverse=True)
        sums = np.zeros((len(names), embedded.shape[1]), np.float32)
        np.add.at(sums, place.reshape(-1), embedded[mine])
        gallery.append(_centred(sums / np.linalg.norm(sums, axis=1, keepdims=True)))
        whose.append(mine[first])
    asked, shown = np.flatnonzero(rows.aerial), np.concatenate(whose)
    scores = unit[asked] @ np.concatenate(gallery).T
    # A set of crops is a site of its own.
    together = (rows.cameras[asked] // 100)[:, None] == (rows.cameras[shown] // 100)[None]
    own = rows.people[asked][:, None] == rows.people[shown][None]
    family = rows.families[asked][:, None] == rows.families[shown][None]
    mated = np.where(own, scores, -2).max(1)
    stranger = np.where(family | ~together, -2, scores).max(1)
    return mated, stranger, asked


def _centred(some: Floats) -> Floats:
    rest = some - some.mean(0)
    unit: Floats = rest / np.maximum(np.linalg.norm(rest, axis=1, keepdims=True), 1e-9)
    return unit


def fnir(mated: Floats, stranger: Floats, times: Ints) -> float:
    """At FPIR 1 %, where probe n asks `times[n]` times."""
    passing = np.quantile(np.repeat(stranger, times), 1 - FPIR)
    return float((((mated < passing) | (mated < stranger)) * times).sum() / times.sum())


def table(test: Rows, scores: dict[str, list[tuple[Floats, Floats]]]) -> list[dict[str, object]]:
    """A row for all drones and for each: FNIR of the arms, differences from the first.

    Raises:
        InputError: the first arm misses nearly all or none.
    """
    asked = np.flatnonzero(test.aerial)
    parts = {"all": np.ones(len(asked), bool)}
    for camera, name in test.drones.items():
        parts.setdefault(name, np.zeros(len(asked), bool))
        parts[name] |= test.cameras[asked] == camera
    rows: list[dict[str, object]] = []
    for name, mine in parts.items():
        people, place = np.unique(test.people[asked][mine], return_inverse=True)

        def rates(arm: str, times: Ints, mine: NDArray[np.bool_] = mine) -> float:
            return float(np.mean([fnir(a[mine], b[mine], times) for a, b in scores[arm]]))

        once = np.ones(int(mine.sum()), np.int64)
        means = {arm: rates(arm, once) for arm in ARMS}
        if name == "all" and not CEILING[0] <= means[ARMS[0]] <= CEILING[1]:
            raise InputError(
                f"told nothing, FNIR is {means[ARMS[0]]:.3f}: outside of {CEILING[0]} to "
                f"{CEILING[1]} no difference can show; take fewer or more people, or other drones"
            )
        drawn: dict[str, list[float]] = {arm: [] for arm in ARMS[1:]}
        random = np.random.default_rng(0)
        for _ in range(DRAWS):
            chosen = np.bincount(
                random.integers(0, len(people), len(people)), minlength=len(people)
            )
            times = chosen[place.reshape(-1)]
            nothing = rates(ARMS[0], times)
            for arm, differences in drawn.items():
                differences.append(rates(arm, times) - nothing)
        rows.append(
            {
                "drone": name,
                "probes": int(mine.sum()),
                "people": len(people),
                "fnir": {arm: round(mean, 4) for arm, mean in means.items()},
                "difference": {
                    arm: [round(means[arm] - means[ARMS[0]], 4), *np.round(_ends(some), 4).tolist()]
                    for arm, some in drawn.items()
                },
            }
        )
    return rows


def _ends(some: list[float]) -> NDArray[np.float64]:
    return np.percentile(some, [2.5, 97.5])


def main() -> int:
    """Print a JSON row a drone; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("embedder", type=Path)
    parser.add_argument("--train", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, nargs="+", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    return run_command(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> int:
    embedder = Embedder([arguments.embedder], view=View.AERIAL)
    train = read(embedder, arguments.train, "train")
    test = read(embedder, arguments.test, "test")
    scores: dict[str, list[tuple[Floats, Floats]]] = {arm: [] for arm in ARMS}
    for arm in ARMS:
        for seed in range(arguments.seeds):
            head = trained(train, arm, seed, arguments.steps)
            with torch.no_grad():
                found = head(torch.from_numpy(test.found), heard(test, arm)).numpy()
            scores[arm].append(searched(test, found)[:2])
    for row in table(test, scores):
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
