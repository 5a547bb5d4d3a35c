"""How alike tracklets of one person, and of two, look to a model: per pair of ways to be seen.

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


def measure(people: Embedded, grey: Embedded) -> dict[str, Prior]:
    """Priors for `aerial-aerial`, `aerial-ground` and `ground-ground`, as far as pairs exist.

    Beside each, of grey pictures: `aerial-ground/grey-grey`, and of one in colour and one in grey,
    `aerial-ground/colour-grey`. Pairs within one camera are left out: the matcher meets them as one
    tracklet or two people.

    Args:
        people: embedded crops of people the model was not fitted on.
        grey: the same crops in the same order as a grey camera would have taken them.
    """
    colours, greys = _tracklets(people), _tracklets(grey)
    same = colours.people[:, None] == colours.people[None, :]
    apart = colours.cameras[:, None] != colours.cameras[None, :]
    compared = {
        "": (colours.embeddings @ colours.embeddings.T, np.triu(apart)),
        "/colour-grey": (colours.embeddings @ greys.embeddings.T, apart),
        "/grey-grey": (greys.embeddings @ greys.embeddings.T, np.triu(apart)),
    }
    priors: dict[str, Prior] = {}
    for one, other in combinations_with_replacement(_VIEWS, 2):
        seen = _of_views(colours.aerial, _VIEWS[one], _VIEWS[other])
        for name, (cosine, once) in compared.items():
            alike, unlike = cosine[seen & once & same], cosine[seen & once & ~same]
            if alike.size > 1 and unlike.size > 1:
                priors[f"{one}-{other}{name}"] = Prior(
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
