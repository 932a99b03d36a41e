"""Compiled engines on a stand-in for the GPU: the EPContext model is replaced by the one it was compiled from."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import service.engines.gpu.tensorrt_engine
from service.bundles.bundle import Bundle, load_bundle
from service.bundles.manifest import TensorRT
from service.engines.engine import EngineError
from service.engines.gpu.device import Gpu, NoGpu, find_gpu
from service.engines.gpu.gpu_engine import make_gpu_engine
from service.engines.gpu.tensorrt_engine import TensorRTEngine
from service.engines.gpu.tensorrt_library import PLUGIN_PROVIDER, Plugin, register_plugin, version_of
from service.engines.onnx_engine import OnnxEngine
from tests.gpu_doubles import GPU, Device, StandInOrt

CLASSIC = "TensorrtExecutionProvider"
DIGITS = load_bundle(Path(__file__).parent.parent.parent.parent.parent / "models" / "digits" / "1")
PART = TensorRT(
    provider=PLUGIN_PROVIDER,
    model="tensorrt/model_ctx.onnx",
    version="1.7.1.116",
    gpu=GPU.name,
    compute_capability=GPU.compute_capability,
    driver_api=GPU.driver_api,
    profile=(2, 4, 6),
)
VERSIONS = {PLUGIN_PROVIDER: "1.7.1.116", CLASSIC: "10.16.1.11"}


def bundle(**changes: object) -> Bundle:
    """Digits with a compiled engine."""
    part = PART.model_copy(update=changes)
    return Bundle(DIGITS.path, DIGITS.manifest.model_copy(update={"tensorrt": part}), None)


def compiled_for(provider: str) -> Bundle:
    return bundle(provider=provider, version=VERSIONS[provider])


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> StandInOrt:
    """onnxruntime with both of TensorRT's providers at hand; sessions run the digits model."""
    stand_in = StandInOrt(CLASSIC, model=DIGITS.model_path)
    plugin = Plugin(Device(PLUGIN_PROVIDER), VERSIONS[PLUGIN_PROVIDER])
    monkeypatch.setattr(service.engines.gpu.tensorrt_engine, "register_plugin", lambda ort: plugin)
    monkeypatch.setattr(
        service.engines.gpu.tensorrt_engine, "version_of", {"libnvinfer.so.10": VERSIONS[CLASSIC]}.__getitem__
    )
    return stand_in


def engine_of(bundle: Bundle, ort: StandInOrt, gpu: Gpu = GPU) -> TensorRTEngine:
    part = bundle.manifest.tensorrt
    assert part
    ort._starts_as = part.provider
    return TensorRTEngine(bundle, part.provider, ort=ort, gpu=lambda: gpu)


@pytest.mark.parametrize("provider", [PLUGIN_PROVIDER, CLASSIC])
@pytest.mark.parametrize("size", [1, 3, 6, 13])
def test_it_answers_at_every_size_and_stays_inside_the_profile(ort: StandInOrt, provider: str, size: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size, 32, 32, 3), np.uint8)
    engine = engine_of(compiled_for(provider), ort)
    expected = OnnxEngine(DIGITS.model_path, 1, ["CPUExecutionProvider"]).run(pixels)
    np.testing.assert_allclose(engine.run(pixels), expected, atol=1e-4)
    assert {len(seen) for _, seen in ort.passes} <= {2, 4, 6}


def test_the_plugin_is_given_one_device_and_no_way_back_to_the_cpu(ort: StandInOrt) -> None:
    engine = engine_of(compiled_for(PLUGIN_PROVIDER), ort)
    (opened,) = ort.opened
    assert opened["path"] == DIGITS.path / "tensorrt/model_ctx.onnx"
    assert opened["options"].entries == {"session.disable_cpu_ep_fallback": "1"}
    assert [device.ep_name for device in opened["options"].devices] == [PLUGIN_PROVIDER]
    assert opened["options"].device_options == {"enable_cuda_graph": "1"}
    assert opened["enable_fallback"] is False
    assert {device for _, device in ort.allocated} == {f"DEFAULT memory of {PLUGIN_PROVIDER}"}
    engine.run(np.zeros((3, 32, 32, 3), np.uint8))
    assert [options for options, _ in ort.passes] == [{"cuda_graph_annotation_id": "4"}]


def test_the_classic_provider_has_its_own_options(ort: StandInOrt) -> None:
    engine = engine_of(compiled_for(CLASSIC), ort)
    (opened,) = ort.opened
    assert opened["options"].entries == {"session.disable_cpu_ep_fallback": "1"}
    assert opened["providers"] == [(CLASSIC, {"device_id": "0", "trt_cuda_graph_enable": "1"})]
    assert {device for _, device in ort.allocated} == {("cuda", 0)}
    engine.run(np.zeros((1, 32, 32, 3), np.uint8))
    assert [options for options, _ in ort.passes] == [{"gpu_graph_id": "2"}]


@pytest.mark.parametrize(
    ("here", "version", "difference"),
    [
        (Gpu("NVIDIA Other", "8.9", "13.0"), "1.7.1.116", r"GPU NVIDIA Test \(8\.9\), here is NVIDIA Other \(8\.9\)"),
        (Gpu("NVIDIA Test", "12.0", "13.0"), "1.7.1.116", r"GPU NVIDIA Test \(8\.9\), here is NVIDIA Test \(12\.0\)"),
        (Gpu("NVIDIA Test", "8.9", "12.9"), "1.7.1.116", r"driver API 13\.0 or newer, here is 12\.9"),
        (GPU, "1.8.0.1", r"TensorRT 1\.8\.0\.1, here is 1\.7\.1\.116"),
    ],
)
def test_an_engine_for_another_machine_is_refused(ort: StandInOrt, here: Gpu, version: str, difference: str) -> None:
    with pytest.raises(EngineError, match=rf"the compiled engine holds for {difference}; export it again"):
        engine_of(bundle(version=version), ort, here)
    assert not ort.opened


def test_a_newer_driver_is_fine(ort: StandInOrt) -> None:
    engine_of(bundle(driver_api="9.2"), ort, Gpu("NVIDIA Test", "8.9", "13.0"))  # 13 > 9 as numbers, not as text


def test_a_fallback_is_an_error(ort: StandInOrt) -> None:
    with pytest.raises(EngineError, match="NvTensorRTRTXExecutionProvider did not start; onnxruntime fell back"):
        TensorRTEngine(bundle(), PLUGIN_PROVIDER, ort=ort, gpu=lambda: GPU)


def test_no_driver(ort: StandInOrt) -> None:
    def no_gpu() -> Gpu:
        raise NoGpu("there is no NVIDIA driver here")

    with pytest.raises(EngineError, match="NvTensorRTRTXExecutionProvider: there is no NVIDIA driver here"):
        TensorRTEngine(bundle(), PLUGIN_PROVIDER, ort=ort, gpu=no_gpu)


def test_the_classic_provider_needs_its_tensorrt(ort: StandInOrt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.engines.gpu.tensorrt_engine, "version_of", version_of)
    with pytest.raises(EngineError, match=r"needs TensorRT 10\.16\.1\.11: libnvinfer\.so\.10 cannot be loaded"):
        engine_of(compiled_for(CLASSIC), ort)


def test_asking_for_an_engine_that_the_bundle_lacks() -> None:
    with pytest.raises(EngineError, match="the bundle holds none"):
        TensorRTEngine(DIGITS, CLASSIC)
    with pytest.raises(EngineError, match=f"the bundle holds one for {PLUGIN_PROVIDER}"):
        TensorRTEngine(bundle(), CLASSIC)


def test_the_factory_takes_the_provider_asked_for() -> None:
    with pytest.raises(EngineError, match="package onnxruntime-gpu"):
        make_gpu_engine(DIGITS, 2, ["CUDAExecutionProvider"])
    with pytest.raises(EngineError, match=f"{PLUGIN_PROVIDER} needs a compiled engine"):
        make_gpu_engine(DIGITS, 2, [PLUGIN_PROVIDER])
    with pytest.raises(EngineError, match="MIXER_PROVIDERS names CPUExecutionProvider too"):
        make_gpu_engine(DIGITS, 2, ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(EngineError, match="is no GPU provider"):
        make_gpu_engine(DIGITS, 2, ["CPUExecutionProvider"])


class Package:
    """onnxruntime_ep_nv_tensorrt_rtx, of which only the path counts."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "libonnxruntime_providers_nv_tensorrt_rtx.so"

    def get_library_path(self) -> str:
        return str(self.library)


def test_the_plugin_is_registered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "service.engines.gpu.tensorrt_library.version_of", {"libtensorrt_rtx.so.1": "1.7.1.116"}.__getitem__
    )
    ort = StandInOrt(PLUGIN_PROVIDER)
    first = register_plugin(ort, load=lambda name: Package(tmp_path))
    monkeypatch.setattr(ort, "register_execution_provider_library", None)  # onnxruntime refuses a second time
    again = register_plugin(ort, load=lambda name: Package(tmp_path))
    assert first == again == Plugin(ort.devices[1], "1.7.1.116")


def test_a_gpu_that_the_plugin_does_not_support(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engines.gpu.tensorrt_library.version_of", lambda library: "1.7.1.116")
    ort = StandInOrt(PLUGIN_PROVIDER)
    monkeypatch.setattr(ort, "register_execution_provider_library", lambda name, library: None)
    with pytest.raises(EngineError, match=r"compute capability 8\.6, 8\.9 or 12\.0 and above"):
        register_plugin(ort, load=lambda name: Package(tmp_path))


def test_the_plugin_package_is_not_installed() -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    with pytest.raises(EngineError, match="package onnxruntime-ep-nv-tensorrt-rtx-cu13, which is not installed"):
        register_plugin(onnxruntime, load=missing)


def test_a_plugin_that_does_not_load(tmp_path: Path) -> None:
    """onnxruntime itself refuses it."""
    package = Package(tmp_path)
    package.library.write_bytes(b"not a library")
    with pytest.raises(EngineError, match=f"{PLUGIN_PROVIDER} did not load: .*libonnxruntime_providers_nv"):
        register_plugin(onnxruntime, load=lambda name: package)


def test_the_real_plugin_without_a_driver() -> None:
    with suppress(NoGpu):
        find_gpu()
        pytest.skip("there is a GPU here")
    pytest.importorskip("onnxruntime_ep_nv_tensorrt_rtx")
    with pytest.raises(EngineError, match=r"did not load \(it comes with the NVIDIA driver\): .*libcuda\.so\.1"):
        register_plugin(onnxruntime)
