"""The builder. `FakeTensorRT` has the attributes of one version and no more; it computes nothing.

What a real parser and builder say is held by tests/export/test_rtx_gate.py.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from skyreid.bundle.archive import Bundle
from skyreid.bundle.compiled import compile_bundle
from skyreid.bundle.engine import EngineError, Profile, build, profile_of
from skyreid.contract.errors import BundleError, InputError

PROFILE = Profile((1, 8, 4, 3), (2, 8, 4, 3), (8, 8, 4, 3))


class FakeTensorRT:
    """The calls that a build makes; `strongly_typed_flag` is absent in some versions."""

    class ILogger:
        Severity = SimpleNamespace(WARNING=2)

    class IProgressMonitor:
        pass

    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(
        self,
        version: str,
        *,
        strongly_typed_flag: bool = True,
        plan: bytes | None = b"plan",
        parses: bool = True,
        takes_timings: bool = True,
    ) -> None:
        self.__version__ = version
        members = {"STRONGLY_TYPED": 1} if strongly_typed_flag else {}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**members)
        self.creation_flags = -1
        self.offered: list[bytes] = []
        self.logger: Any = None
        self._plan, self._parses, self._takes = plan, parses, takes_timings

    def Builder(self, logger: Any) -> Any:
        self.logger = logger
        return SimpleNamespace(
            create_network=self._network,
            create_builder_config=self._config,
            create_optimization_profile=lambda: SimpleNamespace(set_shape=lambda *shapes: None),
            build_serialized_network=self._build,
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        error = SimpleNamespace(
            desc=lambda: "no such operator", node_name=lambda: "n7", node_operator=lambda: "Foo"
        )
        return SimpleNamespace(
            parse=lambda model: self._parses, num_errors=1, get_error=lambda index: error
        )

    def _network(self, flags: int) -> Any:
        self.creation_flags = flags
        return SimpleNamespace(
            num_inputs=1, num_layers=3, get_input=lambda index: SimpleNamespace(name="images")
        )

    def _config(self) -> Any:
        def timing_cache(blob: bytes) -> Any:
            self.offered.append(blob)
            return SimpleNamespace(blob=blob, serialize=lambda: b"timings")

        return SimpleNamespace(
            set_memory_pool_limit=lambda pool, size: None,
            add_optimization_profile=lambda profile: 0,
            create_timing_cache=timing_cache,
            set_timing_cache=lambda cache, ignore_mismatch: self._takes or not cache.blob,
            get_timing_cache=lambda: None,
        )

    def _build(self, network: Any, config: Any) -> bytes | None:
        self.logger.log(1, "tactic\nran out of memory")
        self.logger.log(3, "chatter")
        return self._plan


def test_the_network_is_strongly_typed_by_flag_or_by_version() -> None:
    old, new = FakeTensorRT("10.3.0"), FakeTensorRT("11.4.1", strongly_typed_flag=False)
    for trt in (old, new):
        assert build(b"", PROFILE, trt=trt, name="m").plan == b"plan"
    assert (old.creation_flags, new.creation_flags) == (2, 0)


def test_a_build_without_plan_carries_the_log_without_chatter() -> None:
    with pytest.raises(EngineError, match=r"built no engine .*log: tactic ran out of memory$"):
        build(b"", PROFILE, trt=FakeTensorRT("10.3.0", plan=None), name="m")


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


def test_a_profile_is_the_embedders_own_and_must_be_in_order(bundle: Bundle) -> None:
    assert profile_of(bundle.manifest, batch=8).text() == "1x8x4x3:2x8x4x3:8x8x4x3"
    with pytest.raises(InputError, match="takes 8 x 4, not 16 x 4"):
        profile_of(bundle.manifest, batch=8, height=16, width=4)
    with pytest.raises(InputError, match="minimum <= optimum <= maximum"):
        profile_of(bundle.manifest, batch=0)
