"""The builder, by a fake; what a real one says is held by tests/export/test_rtx_gate.py."""

import pytest
from fake_gpu import FakeTensorRT

from skyreid.bundle.archive import Bundle
from skyreid.bundle.compiled import compile_bundle
from skyreid.bundle.engine import EngineError, Log, Profile, build, profile_of
from skyreid.bundle.manifest import DetectorSpec
from skyreid.contract.errors import BundleError, InputError
from skyreid.contract.input_spec import InputSpec

PROFILE = Profile((1, 8, 4, 3), (2, 8, 4, 3), (8, 8, 4, 3))


def test_the_network_is_strongly_typed_by_flag_or_by_version() -> None:
    old, new = FakeTensorRT("10.3.0"), FakeTensorRT("11.4.1", strongly_typed_flag=False)
    for trt in (old, new):
        assert build(b"", PROFILE, trt=trt, name="m").plan
    assert (old.creation_flags, new.creation_flags) == (2, 0)


def test_a_build_without_plan_carries_the_log_without_chatter() -> None:
    with pytest.raises(EngineError, match=r"built no engine .*log: tactic ran out of memory$"):
        build(b"", PROFILE, trt=FakeTensorRT("10.3.0", builds=False), name="m")


def test_a_parser_error_names_node_and_operator() -> None:
    with pytest.raises(BundleError, match=r"no such operator \(node n7, operator Foo\)"):
        build(b"", PROFILE, trt=FakeTensorRT("10.3.0", parses=False), name="m")


def test_timings_of_another_device_are_replaced_by_empty_ones() -> None:
    trt = FakeTensorRT("10.3.0", takes_timings=False)
    assert build(b"", PROFILE, trt=trt, name="m", timing_cache=b"old").timing_cache == b"timings"
    assert trt.offered == [b"old", b""]


def test_dla_is_refused_with_the_reason(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="LayerNorm"):
        compile_bundle(
            bundle,
            "fp32",
            PROFILE,
            bundle.path / "cache",
            api="tensorrt",
            trt=None,
            device="sm87",
            dla=True,
        )


def test_progress_is_told_by_quarters_of_the_outermost_phase_only() -> None:
    said: list[str] = []
    build(b"", PROFILE, trt=FakeTensorRT("10.3.0"), name="m", say=said.append)
    assert said == ["Building: 8 steps", *(f"Building: {part} %" for part in (25, 50, 75, 100))]


def test_the_log_keeps_the_last_lines_only() -> None:
    log = Log()
    for index in range(100):
        log.lines.append(str(index))
    assert log.text().split(" | ")[-1] == "99"
    assert len(log.lines) < 20


def test_a_detectors_profile_reaches_from_small_to_the_largest_picture(bundle: Bundle) -> None:
    spec = DetectorSpec(stride=4, align=16, score_min=0.3)
    anything = InputSpec(height=0, width=0, crop_margin=0.0)
    change = {"kind": "detector", "detector": spec, "input": anything, "embedding_dim": 0}
    manifest = bundle.manifest.model_copy(update=change)
    assert profile_of(manifest).text() == "1x64x64x3:1x1088x1920x3:1x1088x1920x3"
    assert profile_of(manifest, height=96, width=128).maximum == (1, 96, 128, 3)
    with pytest.raises(InputError, match="100 x 128: tiny needs multiples of 16"):
        profile_of(manifest, height=100, width=128)


def test_a_detector_with_a_size_takes_one_picture_of_it(bundle: Bundle) -> None:
    spec = DetectorSpec(family="yolox", stride=0, align=32, score_min=0.1)
    size = InputSpec(height=64, width=96, crop_margin=0.0)
    change = {"kind": "detector", "detector": spec, "input": size, "embedding_dim": 0}
    manifest = bundle.manifest.model_copy(update=change)
    assert profile_of(manifest).text() == "1x64x96x3:1x64x96x3:1x64x96x3"
    with pytest.raises(InputError, match="takes 64 x 96, not 96 x 128"):
        profile_of(manifest, height=96, width=128)


def test_a_profile_is_the_embedders_own_and_must_be_in_order(bundle: Bundle) -> None:
    assert profile_of(bundle.manifest, batch=8).text() == "1x8x4x3:2x8x4x3:8x8x4x3"
    assert profile_of(bundle.manifest).maximum == (32, 8, 4, 3)
    with pytest.raises(InputError, match="takes 8 x 4, not 16 x 4"):
        profile_of(bundle.manifest, batch=8, height=16, width=4)
    with pytest.raises(InputError, match="minimum <= optimum <= maximum"):
        profile_of(bundle.manifest, batch=0)
