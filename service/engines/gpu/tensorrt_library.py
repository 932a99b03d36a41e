"""TensorRT as it is installed here: its version, and the plugin by which plain onnxruntime reaches TensorRT-RTX."""

import ctypes
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

from service.engines.engine import EngineError

PLUGIN_PROVIDER: Final = "NvTensorRTRTXExecutionProvider"
_PLUGIN_PACKAGE = "onnxruntime-ep-nv-tensorrt-rtx-cu13"


@dataclass(frozen=True, slots=True)
class Plugin:
    """The registered TensorRT-RTX provider."""

    device: Any  # OrtEpDevice of the first GPU
    version: str  # of TensorRT-RTX, not of the package


def version_of(library: str) -> str:
    """Version of libnvinfer or libtensorrt_rtx, as in "10.16.1.11" (NvInferRuntimeBase.h). Raises OSError."""
    functions = ctypes.CDLL(library)
    parts = ("Major", "Minor", "Patch", "Build")
    return ".".join(str(getattr(functions, f"getInferLib{part}Version")()) for part in parts)


def register_plugin(ort: ModuleType, load: Callable[[str], Any] = importlib.import_module) -> Plugin:
    """Register the provider with onnxruntime (`ort`), once a process. `load` imports its package.

    Raises EngineError if the package is missing, its library does not load (it needs the NVIDIA driver's libcuda.so.1
    and libnvidia-ml.so.1), or there is no GPU that it supports.
    """
    try:
        package = load("onnxruntime_ep_nv_tensorrt_rtx")
    except ImportError:
        raise EngineError(f"{PLUGIN_PROVIDER} is in the package {_PLUGIN_PACKAGE}, which is not installed") from None
    library = package.get_library_path()

    def devices() -> list[Any]:
        return [device for device in ort.get_ep_devices() if device.ep_name == PLUGIN_PROVIDER]

    try:
        if not devices():
            ort.register_execution_provider_library(PLUGIN_PROVIDER, library)
        version = version_of("libtensorrt_rtx.so.1")  # which the package has loaded, wherever it lies
    except Exception as error:  # onnxruntime raises classes of its own that share no public base
        hint = " (it comes with the NVIDIA driver)" if "libcuda.so.1" in str(error) else ""
        raise EngineError(f"{PLUGIN_PROVIDER} did not load{hint}: {error}") from None
    if not (found := devices()):
        raise EngineError(
            f"{PLUGIN_PROVIDER} supports no GPU here: it needs compute capability 8.6, 8.9 or 12.0 and above"
        )
    return Plugin(found[0], version)  # one: the provider refuses a session over several devices
