"""Running a bundle: the self-test proves a machine, several bundles are one model."""

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from skyreid.bundle import processor
from skyreid.bundle.archive import Bundle
from skyreid.bundle.embedder import Embedder, choose, open_all
from skyreid.bundle.manifest import model_key
from skyreid.bundle.runner import EXACT_WITHOUT_VNNI, OnnxRunner, self_test, start
from skyreid.contract.errors import BundleError, GateError, PlatformError
from skyreid.contract.input_spec import InputSpec
from skyreid.contract.sighting import View

Make = Callable[..., Bundle]


def test_the_golden_pictures_prove_the_runner(bundle: Bundle) -> None:
    with start(bundle) as runner:
        assert self_test(bundle, runner)["embedding"] == pytest.approx(1.0, abs=1e-6)


def test_a_runner_that_computes_something_else_fails_the_self_test(
    tmp_path: Path, make_bundle: Make
) -> None:
    wrong = make_bundle(tmp_path / "wrong", golden_scale=-5.0)
    with start(wrong) as runner, pytest.raises(GateError, match="self-test of embedding"):
        self_test(wrong, runner)


def test_any_batch_size_runs(bundle: Bundle) -> None:
    rng = np.random.default_rng(1)
    with start(bundle) as runner:
        for n in (1, 2, 5, 32):
            pictures = rng.integers(0, 256, (n, 8, 4, 3), np.uint8)
            got = runner.run(pictures)["embedding"]
            want = pictures.astype(float).mean((1, 2))
            want /= np.linalg.norm(want, axis=1, keepdims=True)
            np.testing.assert_allclose(got, want, atol=1e-5)


def test_pictures_that_a_model_does_not_take_are_refused_in_our_words(bundle: Bundle) -> None:
    with start(bundle) as runner, pytest.raises(BundleError, match=r"pictures \[1, 9, 4, 3\]"):
        runner.run(np.zeros((1, 9, 4, 3), np.uint8))


@pytest.mark.parametrize(
    ("flags", "slow"),
    [
        ("avx2 avx512f", True),
        ("avx2 avx512f avx512_vnni", False),
        ("avx2 avx_vnni", False),
        ("asimd", True),  # where it does nothing
        (None, True),
    ],
)
def test_bytes_are_made_unsigned_only_where_the_processor_has_no_vnni(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, flags: str | None, slow: bool
) -> None:
    """Where it has, that is as exact and a third slower; where nobody knows, exact comes first."""
    told = tmp_path / "cpuinfo"
    if flags is not None:
        told.write_text(
            f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\nflags\t\t: {flags}\n"
        )
    monkeypatch.setattr(processor, "_TOLD", told)
    asked: list[onnxruntime.SessionOptions] = []
    load = onnxruntime.InferenceSession

    def recorded(model: bytes, options: onnxruntime.SessionOptions, **rest: object) -> object:
        asked.append(options)
        return load(model, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", recorded)
    OnnxRunner(bundle.model("fp32"), name="fp32").close()
    (options,) = asked
    if slow:
        assert options.get_session_config_entry(EXACT_WITHOUT_VNNI) == "1"
    else:
        with pytest.raises(RuntimeError, match="does not have configuration"):
            options.get_session_config_entry(EXACT_WITHOUT_VNNI)


def npz(**arrays: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.savez(data, **arrays)  # type: ignore[arg-type]
    return data.getvalue()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"pictures": b"junk"}, "pictures.npz is no npz"),
        ({"pictures": None}, "pictures.npz is missing"),
        ({"pictures": npz(others=np.zeros(3))}, "no pictures uint8"),
        ({"pictures": npz(pictures=np.zeros((8, 8, 4, 3)))}, "no pictures uint8"),
        ({"pictures": npz(pictures=np.zeros((0, 8, 4, 3), np.uint8))}, "no pictures uint8"),
        ({"outputs": npz()}, "no outputs of the 8 golden pictures"),
        ({"outputs": npz(embedding=np.zeros((7, 3), np.float32))}, "no outputs of the 8"),
        ({"outputs": npz(embedding=np.array([{}]))}, "outputs.npz is no npz"),
    ],
)
def test_a_self_test_that_could_prove_nothing_is_refused(
    bundle: Bundle, changed: dict[str, bytes | None], why: str
) -> None:
    files = dict(bundle.files)
    for name, data in changed.items():
        del files[f"golden/{name}.npz"]
        files |= {} if data is None else {f"golden/{name}.npz": data}
    with start(bundle) as runner, pytest.raises(BundleError, match=why):
        self_test(replace(bundle, files=files), runner)


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(BundleError, match="model junk does not load"):
        OnnxRunner(b"junk", name="junk")


def test_without_onnxruntime_the_line_says_what_to_install(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PlatformError, match=r"pip install 'skyreid\[edge\]'"):
        start(bundle)


def test_the_embedder_normalises_and_names_its_model(bundle: Bundle) -> None:
    embedder = Embedder([bundle.path], view=View.GROUND)
    crops = np.random.default_rng(2).integers(0, 256, (3, 8, 4, 3), np.uint8)
    out = embedder.embed(crops)
    np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1.0, atol=1e-6)
    assert (embedder.dim, embedder.spec) == (3, InputSpec(height=8, width=4))
    assert embedder.model.bundle_sha256 == bundle.sha256
    assert embedder.model.key == bundle.manifest.model_key
    embedder.close()


def test_two_views_of_one_checkpoint_are_one_model(tmp_path: Path, make_bundle: Make) -> None:
    paths = [make_bundle(tmp_path / v, view=v).path for v in ("aerial", "ground")]
    bundles = open_all(paths)
    assert choose(bundles, View.AERIAL).manifest.view == "aerial"
    assert choose(bundles, View.GROUND).manifest.view == "ground"
    with pytest.raises(BundleError, match="no bundle for view ground; given: aerial"):
        choose(bundles[:1], View.GROUND)


@pytest.mark.parametrize(
    ("first", "second", "complaint"),
    [
        ({"view": "aerial"}, {"view": "ground", "checkpoint": "d" * 64}, "their keys differ"),
        ({"view": "aerial"}, {"view": "aerial"}, "views of these bundles overlap"),
        ({"view": "any"}, {"view": "aerial"}, "views of these bundles overlap"),
    ],
)
def test_bundles_that_are_not_one_model_are_refused(
    tmp_path: Path,
    make_bundle: Make,
    first: dict[str, str],
    second: dict[str, str],
    complaint: str,
) -> None:
    paths = [
        make_bundle(tmp_path / "a", **first).path,
        make_bundle(tmp_path / "b", **second).path,
    ]
    with pytest.raises(BundleError, match=complaint):
        open_all(paths)


def test_no_bundle_at_all_is_refused() -> None:
    with pytest.raises(BundleError, match="no embedder bundle given"):
        open_all([])


def test_the_model_key_is_pinned() -> None:
    """The key of a given model may never change: galleries are keyed by it."""
    key = model_key("c" * 64, InputSpec(height=8, width=4), 3)
    assert key == model_key("c" * 64, InputSpec(height=8, width=4), 3)
    assert key != model_key("d" * 64, InputSpec(height=8, width=4), 3)
    assert key != model_key("c" * 64, InputSpec(height=8, width=5), 3)
    assert key != model_key("c" * 64, InputSpec(height=8, width=4), 4)
    assert key == "0a7440a7f4529906"
