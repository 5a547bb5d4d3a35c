"""How alike two tracklets of one person, and of two people, look to a model: per pair of views.

The matcher's score calibration starts from these numbers, which travel in the bundle. A sighting
carries the aggregate of a tracklet's crops, so that is what is compared here: the normalised mean
over the crops of one person in one camera.
"""

from __future__ import annotations

from itertools import combinations_with_replacement
from typing import TypedDict

import numpy as np
from numpy.typing import NDArray

from skyreid.train.evaluate.metrics import Bools, Embedded

_VIEWS = {"aerial": True, "ground": False}


class Prior(TypedDict):
    """Two normal distributions of the cosine; the fields of the bundle's `ScorePrior`."""

    same_mean: float
    same_std: float
    different_mean: float
    different_std: float
    pairs: int


def measure(people: Embedded) -> dict[str, Prior]:
    """Priors for `aerial-aerial`, `aerial-ground` and `ground-ground`, as far as pairs exist.

    Pairs within one camera are left out: the matcher meets them as one tracklet or two people.

    Args:
        people: embedded crops of people the model was not fitted on.
    """
    tracklets = _tracklets(people)
    cosine = tracklets.embeddings @ tracklets.embeddings.T
    same = tracklets.people[:, None] == tracklets.people[None, :]
    apart = np.triu(tracklets.cameras[:, None] != tracklets.cameras[None, :])
    priors: dict[str, Prior] = {}
    for one, other in combinations_with_replacement(_VIEWS, 2):
        of_views = _of_views(tracklets.aerial, _VIEWS[one], _VIEWS[other]) & apart
        alike, unlike = cosine[of_views & same], cosine[of_views & ~same]
        if alike.size > 1 and unlike.size > 1:
            priors[f"{one}-{other}"] = Prior(
                same_mean=float(alike.mean()),
                same_std=float(alike.std()),
                different_mean=float(unlike.mean()),
                different_std=float(unlike.std()),
                pairs=int(alike.size),
            )
    return priors


def _of_views(aerial: Bools, one: bool, other: bool) -> Bools:
    """Bool [N, N]: a pair of these two views, in either order."""
    pairs: Bools = ((aerial[:, None] == one) & (aerial[None, :] == other)) | (
        (aerial[:, None] == other) & (aerial[None, :] == one)
    )
    return pairs


def _tracklets(crops: Embedded) -> Embedded:
    keys, index = np.unique(np.stack([crops.people, crops.cameras], 1), axis=0, return_inverse=True)
    sums = np.zeros((len(keys), crops.embeddings.shape[1]), np.float32)
    np.add.at(sums, index, crops.embeddings)
    aerial: NDArray[np.bool_] = np.zeros(len(keys), np.bool_)
    aerial[index] = crops.aerial
    lengths = np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.float32(1e-12))
    return Embedded(sums / lengths, keys[:, 0], keys[:, 1], aerial)
