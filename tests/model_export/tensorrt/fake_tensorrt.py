"""NVIDIA's `tensorrt` module as far as the builder uses it, of either API generation; it records and builds nothing."""

from types import SimpleNamespace
from typing import Any


class FakeTensorRT:
    """`generation` 10 has precision flags and asks for STRONGLY_TYPED; 11 has neither."""

    def __init__(self, generation: int, plan: bytes | None = b"plan", errors: tuple[str, ...] = ()) -> None:
        self.__version__ = {10: "10.16.1.11", 11: "11.4.0.106"}[generation]
        self.calls: dict[str, Any] = {"builds": 0}
        self.plan, self.errors = plan, errors
        old = {"FP16": 0, "INT8": 1, "BF16": 2} if generation == 10 else {}
        self.BuilderFlag = SimpleNamespace(TF32=7, **old)
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**({"STRONGLY_TYPED": 1} if generation == 10 else {}))
        self.MemoryPoolType = SimpleNamespace(WORKSPACE=0)
        self.Logger = Logger
        self.Builder = lambda logger: Builder(self)
        self.OnnxParser = lambda network, logger: Parser(self)


class Logger:
    WARNING = 2

    def __init__(self, severity: int) -> None:
        assert severity == self.WARNING


class Builder:
    def __init__(self, module: FakeTensorRT) -> None:
        self._module, self._calls = module, module.calls

    def create_network(self, flags: int) -> object:
        self._calls["network_flags"] = flags
        return object()

    def create_builder_config(self) -> "Config":
        return Config(self._module)

    def create_optimization_profile(self) -> "OptimizationProfile":
        return OptimizationProfile()

    def build_serialized_network(self, network: object, config: "Config") -> bytes | None:
        self._calls["builds"] += 1
        if config.timings:
            config.timings.learned = True
        return self._module.plan


class OptimizationProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, *shapes: tuple[int, ...]) -> None:
        self.shapes[name] = shapes


class Config:
    def __init__(self, module: FakeTensorRT) -> None:
        self._calls = module.calls
        self.timings: TimingCache | None = None

    def set_memory_pool_limit(self, pool: int, limit: int) -> None:
        self._calls["workspace"] = limit

    def set_flag(self, flag: int) -> None:
        raise AssertionError("precision is the ONNX's")

    def clear_flag(self, flag: int) -> None:
        self._calls["cleared"] = flag

    def add_optimization_profile(self, profile: OptimizationProfile) -> int:
        self._calls["profile"] = profile.shapes
        return 0

    def create_timing_cache(self, blob: bytes) -> "TimingCache":
        self._calls["timings"] = blob
        return TimingCache(blob)

    def set_timing_cache(self, cache: "TimingCache", ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self.timings = cache
        return True


class TimingCache:
    def __init__(self, blob: bytes) -> None:
        self._blob, self.learned = blob, False

    def serialize(self) -> bytearray:
        return bytearray(self._blob + b"timed;" if self.learned else self._blob)


class Parser:
    def __init__(self, module: FakeTensorRT) -> None:
        self._module = module
        self.num_errors = len(module.errors)

    def parse(self, model: bytes) -> bool:
        self._module.calls["model"] = model
        return not self._module.errors

    def get_error(self, number: int) -> str:
        return self._module.errors[number]
