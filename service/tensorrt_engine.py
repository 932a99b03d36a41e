"""The engine that was compiled ahead of time for this GPU: an EPContext model in one of TensorRT's two providers."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime

from service.bound_passes import BUCKETS, BoundPasses
from service.bundle import Bundle
from service.engine import LogitBatch, PixelBatch
from service.gpu import Gpu, NoGpu, find_gpu
from service.manifest import TensorRT
from service.onnx_engine import EngineError
from service.tensorrt_library import PLUGIN_PROVIDER, register_plugin, version_of

_NVIDIA = 0x10DE  # PCI vendor


class TensorRTEngine:
    """A bundle's compiled engine (see `service.engine.Engine`): "core is one accelerator", so one thread.

    Raises EngineError if the bundle holds no engine for `provider`, or holds one for another GPU, a newer driver or
    another TensorRT than this machine's.
    """

    threads = 1

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
        if session.get_providers()[0] != provider:
            raise EngineError(f"{provider} did not start; onnxruntime fell back to {session.get_providers()}")
        smallest, _, self._largest = part.profile
        self._passes = BoundPasses(
            session,
            bundle.manifest.image_size,
            bundle.manifest.classes,
            allocate,
            graph_option=graph_option,
            buckets=tuple(size for size in {*BUCKETS, *part.profile} if smallest <= size <= self._largest),
        )

    def run(self, pixels: PixelBatch) -> LogitBatch:
        """One pass over uint8 [N, H, W, 3] -> float32 [N, classes]; several if N is beyond the engine's profile."""
        parts = [pixels[start : start + self._largest] for start in range(0, len(pixels), self._largest)]
        return np.concatenate([self._passes.run(part) for part in parts])


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
    options = _no_fallback(ort)
    options.add_provider_for_devices([plugin.device], {"enable_cuda_graph": "1"})
    session = _session(ort, bundle, part, options, providers=None)
    return (
        session,
        lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, "gpu", 0, _NVIDIA),
        "cuda_graph_annotation_id",
    )


def _open_classic(ort: ModuleType, bundle: Bundle, part: TensorRT, gpu: Gpu) -> _Opened:
    if part.provider not in (installed := ort.get_available_providers()):
        raise EngineError(
            f"providers not installed: {part.provider} (package onnxruntime-gpu); installed: {', '.join(installed)}"
        )
    library = f"libnvinfer.so.{part.version.partition('.')[0]}"
    try:
        check_machine(part, gpu, version_of(library))
    except OSError:
        raise EngineError(f"{part.provider} needs TensorRT {part.version}: {library} cannot be loaded") from None
    ort.preload_dlls()
    options = {"device_id": "0", "trt_cuda_graph_enable": "1"}
    session = _session(ort, bundle, part, _no_fallback(ort), providers=[(part.provider, options)])
    return (
        session,
        lambda shape, element: ort.OrtValue.ortvalue_from_shape_and_type(shape, element, "cuda", 0),
        "gpu_graph_id",
    )


def _no_fallback(ort: ModuleType) -> Any:
    options = ort.SessionOptions()
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return options


def _session(ort: ModuleType, bundle: Bundle, part: TensorRT, options: Any, providers: Any) -> Any:
    path = bundle.path / part.model
    try:
        return ort.InferenceSession(path, options, providers=providers, enable_fallback=False)
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        raise EngineError(f"{path}: {error}") from error
