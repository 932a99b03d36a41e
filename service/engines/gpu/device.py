"""The GPU and its driver, as libcuda itself describes them."""

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_COMPUTE_CAPABILITY = (75, 76)  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR


class NoGpu(Exception):
    """There is no usable NVIDIA driver or GPU here; the message says which."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What a compiled engine depends on."""

    name: str  # "NVIDIA H200"
    compute_capability: str  # "9.0"
    driver_api: str  # newest CUDA that the driver speaks: "13.0"


def find_gpu(device: int = 0, load: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """GPU number `device`, as CUDA counts them. Raises NoGpu.

    Asks the driver (CUDA Driver API, cuda.h), which needs no CUDA toolkit and no Python package.
    """
    try:
        cuda = load("libcuda.so.1")
    except OSError:
        raise NoGpu("there is no NVIDIA driver here: libcuda.so.1 cannot be loaded") from None

    def call(function: str, *arguments: object) -> None:
        if status := getattr(cuda, function)(*arguments):
            raise NoGpu(f"the NVIDIA driver's {function} failed with CUDA error {status} for GPU {device}")

    call("cuInit", 0)
    version, handle, number = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    call("cuDriverGetVersion", ctypes.byref(version))
    call("cuDeviceGet", ctypes.byref(handle), device)
    name = ctypes.create_string_buffer(256)
    call("cuDeviceGetName", name, len(name), handle)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        call("cuDeviceGetAttribute", ctypes.byref(number), attribute, handle)
        capability.append(str(number.value))
    # 13020 means 13.2
    return Gpu(name.value.decode(), ".".join(capability), f"{version.value // 1000}.{version.value % 1000 // 10}")
