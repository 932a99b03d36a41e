"""A GPU that is this CPU: onnxruntime's module as the GPU engines see it, recording what is asked and running it."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from service.engines.gpu.device import Gpu

GPU = Gpu("NVIDIA Test", "8.9", "13.0")


class Options:
    """Session options that can be read back."""

    def __init__(self) -> None:
        self.entries: dict[str, str] = {}
        self.devices: list[Any] = []
        self.device_options: dict[str, str] = {}

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        self.devices, self.device_options = devices, options


class Device:
    """An OrtEpDevice."""

    def __init__(self, ep_name: str) -> None:
        self.ep_name = ep_name

    def memory_info(self, kind: Any) -> str:
        return f"{kind.name} memory of {self.ep_name}"


class StandInOrt:
    """onnxruntime with `provider` installed. Sessions run `model`, or what they are given, on the CPU.

    `starts_as` is the provider that sessions say they run on; anything else than `provider` is a silent fallback.
    """

    SessionOptions = Options
    OrtDeviceMemoryType = onnxruntime.OrtDeviceMemoryType

    def __init__(self, provider: str, model: Path | None = None, starts_as: str = "") -> None:
        self.provider = provider
        self.devices: list[Device] = []
        self.opened: list[dict[str, Any]] = []
        self.allocated: list[tuple[list[int], Any]] = []  # shape, device or memory
        self.passes: list[tuple[dict[str, str], np.ndarray]] = []  # run option, pixels as the device saw them
        self.threads: set[int] = set()  # that passes ran on
        self._model = model
        self._starts_as = starts_as or provider
        self.OrtValue = self

    def get_available_providers(self) -> list[str]:
        return [self.provider, "CPUExecutionProvider"]

    def preload_dlls(self) -> None:
        pass

    def get_ep_devices(self) -> list[Device]:
        return self.devices

    def register_execution_provider_library(self, name: str, library: str) -> None:
        self.devices = [Device("CPUExecutionProvider"), Device(name), Device(name)]

    def InferenceSession(self, path: Path, options: Options, **arguments: Any) -> "Session":  # noqa: N802
        self.opened.append({"path": path, "options": options, **arguments})
        real = onnxruntime.InferenceSession(self._model or path, providers=["CPUExecutionProvider"])
        return Session(self, real, self._starts_as)

    def ortvalue_from_shape_and_type(self, shape: list[int], element: type, *device: Any, memory_info: Any = "") -> Any:
        self.allocated.append((shape, memory_info or device))
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, element, "cpu", 0)


class Session:
    """A real CPU session under another name."""

    def __init__(self, ort: StandInOrt, real: onnxruntime.InferenceSession, provider: str) -> None:
        self._ort, self._real, self._provider = ort, real, provider

    def get_providers(self) -> list[str]:
        return [self._provider, "CPUExecutionProvider"]

    def io_binding(self) -> Any:
        return self._real.io_binding()

    def run_with_iobinding(self, binding: Any, options: onnxruntime.RunOptions) -> None:
        graphs = {}
        for name in ("gpu_graph_id", "cuda_graph_annotation_id"):
            try:
                graphs[name] = options.get_run_config_entry(name)
            except Exception:
                continue
        self._ort.threads.add(threading.get_ident())
        self._ort.passes.append((graphs, np.array(binding._bound_inputs["images"].numpy())))
        self._real.run_with_iobinding(binding, options)


def fake_driver(**failing: int) -> Any:
    """libcuda.so.1 of a machine with GPU; `cuInit=100` makes that function fail with that error."""

    class Driver:
        def __getattr__(self, function: str) -> Any:
            return lambda *arguments: failing.get(function, 0) or answers[function](*arguments)

    def put(pointer: Any, value: int) -> int:
        pointer._obj.value = value
        return 0

    def name(buffer: Any, size: int, device: Any) -> int:
        buffer.value = GPU.name.encode()
        return 0

    answers = {
        "cuInit": lambda flags: 0,
        "cuDriverGetVersion": lambda pointer: put(pointer, 13000),
        "cuDeviceGet": put,
        "cuDeviceGetName": name,
        "cuDeviceGetAttribute": lambda pointer, attribute, device: put(pointer, {75: 8, 76: 9}[attribute]),
    }
    return Driver()
