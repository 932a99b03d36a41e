"""The engine that was compiled ahead of time for this GPU: an EPContext model in one of TensorRT's two providers."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

from service.arrays import LogitBatch, Outputs, PixelBatch
from service.bundles.bundle import Bundle
from service.bundles.manifest import TensorRT
from service.engines.engine import EngineError
from service.engines.gpu.bound_passes import BUCKETS, BoundPasses
from service.engines.gpu.device import Gpu, NoGpu, find_gpu
from service.engines.gpu.session import open_gpu_session
from service.engines.gpu.tensorrt_library import PLUGIN_PROVIDER, register_plugin, version_of


class TensorRTEngine:
    """A bundle's compiled engine (see `service.engines.engine.Engine`).

    Raises EngineError if the bundle holds no engine for `provider`, or holds one for another GPU, a newer driver or
    another TensorRT than this machine's.
    """

    def __init__(
        self,
        bundle: Bundle,
        provider: str,
        ort: ModuleType = onnxruntime,
        gpu: Callable[[], Gpu] = find_gpu,
    ) -> None:
        """`ort` stands for the onnxruntime module."""
        part = bundle.manifest.tensorrt
        if part is None or part.provider != provider:
            holds = f"one for {part.provider}" if part else "none"
            raise EngineError(f"{bundle.path}: {provider} needs a compiled engine and the bundle holds {holds}")
        try:
            here = gpu()
        except NoGpu as error:
            raise EngineError(f"{provider}: {error}") from None
        open_session = _open_plugin if provider == PLUGIN_PROVIDER else _open_classic
        session, allocate, graph_option = open_session(ort, bundle, part, here)
        self.name = f"onnxruntime {onnxruntime.__version__}, TensorRT {part.version}"
        smallest, _, self._largest = part.profile
        self._passes = BoundPasses(
            session,
            bundle.manifest.image_size,
            bundle.manifest.outputs,
            allocate,
            graph_option=graph_option,
            buckets=tuple(size for size in {*BUCKETS, *part.profile} if smallest <= size <= self._largest),
        )

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> logits, float32 [N, classes], or without a head features.

        Several passes if N is beyond the engine's profile.
        """
        return np.concatenate([self._passes.run(part) for part in self._parts(pixels)])

    def outputs(self, pixels: PixelBatch) -> Outputs:
        """The same -> all outputs by name."""
        parts = [self._passes.outputs(part) for part in self._parts(pixels)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _parts(self, pixels: PixelBatch) -> list[PixelBatch]:
        return [pixels[start : start + self._largest] for start in range(0, len(pixels), self._largest)]


def check_machine(part: TensorRT, gpu: Gpu, version: str) -> None:
    """Raise EngineError, naming every difference, unless a compiled engine holds for this GPU, driver and TensorRT.

    A driver that speaks a newer CUDA than the compiling machine's is fine: drivers are backward compatible.
    """
    differences = []
    if (gpu.name, gpu.compute_capability) != (part.gpu, part.compute_capability):
        differences.append(f"GPU {part.gpu} ({part.compute_capability}), here is {gpu.name} ({gpu.compute_capability})")
    if _numbers(gpu.driver_api) < _numbers(part.driver_api):
        differences.append(f"driver API {part.driver_api} or newer, here is {gpu.driver_api}")
    if version != part.version:
        differences.append(f"TensorRT {part.version}, here is {version}")
    if differences:
        raise EngineError(
            f"the compiled engine holds for {'; for '.join(differences)}; export it again on this machine"
        )


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


_Opened = tuple[Any, Callable[[list[int], type], Any], str]  # session, allocate, graph option


def _open_plugin(ort: ModuleType, bundle: Bundle, part: TensorRT, gpu: Gpu) -> _Opened:
    plugin = register_plugin(ort)
    check_machine(part, gpu, plugin.version)
    options = {"enable_cuda_graph": "1"}
    memory = plugin.device.memory_info(ort.OrtDeviceMemoryType.DEFAULT)
    return (
        open_gpu_session(ort, bundle.path / part.model, part.provider, options, plugin.device),
        lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, memory_info=memory),
        "cuda_graph_annotation_id",
    )


def _open_classic(ort: ModuleType, bundle: Bundle, part: TensorRT, gpu: Gpu) -> _Opened:
    library = f"libnvinfer.so.{part.version.partition('.')[0]}"
    try:
        check_machine(part, gpu, version_of(library))
    except OSError:
        raise EngineError(f"{part.provider} needs TensorRT {part.version}: {library} cannot be loaded") from None
    options = {"device_id": "0", "trt_cuda_graph_enable": "1"}
    return (
        open_gpu_session(ort, bundle.path / part.model, part.provider, options),
        lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, "cuda", 0),
        "gpu_graph_id",
    )
