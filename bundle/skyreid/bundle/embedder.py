"""People's crops to embeddings: one or several bundles used as one model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from skyreid.bundle.archive import Bundle, open_bundle
from skyreid.bundle.runner import ON_CPU, Execution, Runner, self_test, start
from skyreid.bundle.signature import ANYONE, Trust
from skyreid.contract.errors import BundleError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import ModelRef, View


class Embedder:
    """Turns crops of one view into L2-normalised embeddings."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        view: View,
        threads: int = 1,
        trust: Trust = ANYONE,
        execution: Execution = ON_CPU,
    ) -> None:
        """Open, verify and self-test the bundle that serves ``view``.

        Args:
            paths: bundles that together are one model: equal model key, views that do not overlap.
            view: where this camera looks from; other views' bundles are verified, not loaded.
            threads: CPU threads of one call.
            trust: whose bundles are accepted.
            execution: where the model runs.

        Raises:
            BundleError: a bundle cannot be used, they are not one model, or none serves ``view``.
            GateError: the self-test on the golden crops failed.
        """
        bundle = choose(open_all(paths, trust), view)
        manifest = bundle.manifest
        self.spec: InputSpec = manifest.input
        self.dim: int = manifest.embedding_dim
        prior = manifest.score_priors.get(f"{view.word}-{view.word}")
        self.like_min: float | None = None if prior is None else prior.like_min
        """From which cosine on two crops of this view may show one person; None where the bundle
        does not say how people's cosines are spread."""
        self.model = ModelRef(manifest.model_key, self.dim, bundle.sha256, manifest.name)
        self._runner: Runner = start(bundle, threads=threads, execution=execution)
        worst = self_test(bundle, self._runner)["embedding"]
        self.runner = f"{self._runner.by}, lowest cosine to the golden embeddings {worst:.6f}"

    def embed(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """uint8 [N, H, W, 3] RGB of the input's size -> float32 [N, D], L2-normalised."""
        out = self._runner.run(crops)["embedding"]
        length = np.maximum(np.linalg.norm(out, axis=1, keepdims=True), np.float32(1e-12))
        unit: NDArray[np.float32] = out / length
        return unit

    def cut(self) -> None:
        """Ask a call that another thread is in to end; no call comes afterwards."""
        self._runner.cut()

    def close(self) -> None:
        """Free the runner."""
        self._runner.close()


def open_all(paths: Sequence[Path], trust: Trust = ANYONE) -> list[Bundle]:
    """Open bundles that are to be one model.

    Raises:
        BundleError: none given, one is not an embedder, model keys differ or views overlap.
    """
    if not paths:
        raise BundleError("no embedder bundle given")
    bundles = [open_bundle(path, trust) for path in paths]
    for bundle in bundles:
        if bundle.manifest.kind != "embedder":
            raise BundleError(f"bundle {bundle.path} is a {bundle.manifest.kind}, not an embedder")
    keys = {bundle.manifest.model_key for bundle in bundles}
    if len(keys) > 1:
        listed = ", ".join(f"{b.path}: {b.manifest.model_key}" for b in bundles)
        raise BundleError(f"these bundles are not one model, their keys differ: {listed}")
    views = [bundle.manifest.view for bundle in bundles]
    if len(set(views)) < len(views) or ("any" in views and len(views) > 1):
        raise BundleError(f"the views of these bundles overlap: {', '.join(views)}")
    return bundles


def choose(bundles: Sequence[Bundle], view: View) -> Bundle:
    """The bundle that serves ``view``.

    Raises:
        BundleError: none does.
    """
    for bundle in bundles:
        if bundle.manifest.view in (view.word, "any"):
            return bundle
    have = ", ".join(bundle.manifest.view for bundle in bundles)
    raise BundleError(f"no bundle for view {view.word}; given: {have}")
