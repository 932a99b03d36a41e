import pytest

from service.engines.gpu.device import NoGpu, find_gpu
from tests.gpu_doubles import GPU, fake_driver


def test_the_driver_names_the_gpu() -> None:
    assert find_gpu(load=lambda library: {"libcuda.so.1": fake_driver()}[library]) == GPU


def test_without_a_driver() -> None:
    def missing(library: str) -> None:
        raise OSError(f"{library}: cannot open shared object file")

    with pytest.raises(NoGpu, match=r"no NVIDIA driver here: libcuda\.so\.1"):
        find_gpu(load=missing)


def test_a_driver_without_a_gpu() -> None:
    with pytest.raises(NoGpu, match="cuInit failed with CUDA error 100"):
        find_gpu(load=lambda _: fake_driver(cuInit=100))
    with pytest.raises(NoGpu, match="cuDeviceGet failed with CUDA error 101 for GPU 3"):
        find_gpu(3, load=lambda _: fake_driver(cuDeviceGet=101))
