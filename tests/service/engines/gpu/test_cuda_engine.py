"""The CUDA engine on a stand-in for the GPU: passes are real, on the CPU; options are what it asked for."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from service.bundles.bundle import Bundle, load_bundle
from service.engines.engine import EngineError
from service.engines.gpu.cuda_engine import PROVIDER, CudaEngine
from service.engines.onnx_engine import OnnxEngine
from tests.gpu_doubles import StandInOrt

DIGITS = Path(__file__).parent.parent.parent.parent.parent / "models" / "digits" / "1"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(DIGITS)


def random_pixels(size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, 32, 32, 3), np.uint8)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 8, 11])
def test_it_answers_like_the_cpu_engine_at_every_size(bundle: Bundle, size: int) -> None:
    expected = OnnxEngine(bundle.model_path, 1, ["CPUExecutionProvider"]).run(random_pixels(size))
    logits = CudaEngine(bundle, buckets=(1, 4, 8), ort=StandInOrt(PROVIDER)).run(random_pixels(size))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_each_bucket_has_its_own_graph_and_larger_batches_have_none(bundle: Bundle) -> None:
    ort = StandInOrt(PROVIDER)
    engine = CudaEngine(bundle, buckets=(1, 4), ort=ort)
    for size in (1, 2, 4, 5):
        engine.run(random_pixels(size))
    graphs = [(options["gpu_graph_id"], len(pixels)) for options, pixels in ort.passes]
    assert graphs == [("1", 1), ("4", 4), ("4", 4), ("-1", 5)]


def test_a_graphs_addresses_never_change(bundle: Bundle) -> None:
    ort = StandInOrt(PROVIDER)
    engine = CudaEngine(bundle, buckets=(2, 4), ort=ort)
    bound = list(ort.allocated)
    for size in (1, 2, 3, 4):
        engine.run(random_pixels(size))
    assert ort.allocated == bound
    assert bound == [
        (shape, ("cuda", 0)) for bucket in (2, 4) for shape in ([bucket, 32, 32, 3], [bucket, 10], [bucket, 128])
    ]


def test_the_thread_that_captures_a_graph_is_the_one_that_replays_it(bundle: Bundle) -> None:
    ort = StandInOrt(PROVIDER)
    engine = CudaEngine(bundle, buckets=(1,), ort=ort)
    engine.run(random_pixels(1))
    with ThreadPoolExecutor(1) as serving:
        serving.submit(engine.run, random_pixels(1)).result()
    engine.passes.replay(1)
    assert len(ort.passes) == 3
    assert len(ort.threads) == 1


def test_padding_is_black_and_changes_no_answer(bundle: Bundle) -> None:
    ort = StandInOrt(PROVIDER)
    engine = CudaEngine(bundle, buckets=(4,), ort=ort)
    fresh = engine.run(random_pixels(3))
    engine.run(random_pixels(4, seed=1))  # leaves its images behind
    assert np.array_equal(engine.run(random_pixels(3)), fresh)
    _, pixels = ort.passes[-1]
    assert np.array_equal(pixels[:3], random_pixels(3))
    assert not pixels[3:].any()


def test_answers_survive_the_next_pass(bundle: Bundle) -> None:
    engine = CudaEngine(bundle, buckets=(4,), ort=StandInOrt(PROVIDER))
    first = engine.run(random_pixels(4))
    kept = first.copy()
    engine.run(random_pixels(4, seed=1))
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(("precision", "use_tf32"), [("fp32", "0"), ("fp16", "1"), ("bf16", "1")])
def test_the_session_may_use_the_gpu_only(bundle: Bundle, precision: str, use_tf32: str) -> None:
    manifest = bundle.manifest.model_copy(update={"precision": precision})
    ort = StandInOrt(PROVIDER)
    CudaEngine(Bundle(bundle.path, manifest, None), ort=ort)
    (session,) = ort.opened
    assert session["path"] == bundle.model_path
    assert session["options"].entries == {"session.disable_cpu_ep_fallback": "1"}
    assert session["enable_fallback"] is False
    ((provider, options),) = session["providers"]
    assert provider == PROVIDER
    assert (options["enable_cuda_graph"], options["use_tf32"]) == ("1", use_tf32)


def test_a_fallback_to_the_cpu_is_an_error(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"did not start; onnxruntime fell back to \['CPUExecutionProvider'"):
        CudaEngine(bundle, ort=StandInOrt(PROVIDER, starts_as="CPUExecutionProvider"))


def test_a_model_that_does_not_load_is_an_error(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"model\.onnx: .*doesn't exist"):
        CudaEngine(Bundle(tmp_path, bundle.manifest, None), ort=StandInOrt(PROVIDER))


def test_the_cpu_build_of_onnxruntime_is_refused(bundle: Bundle) -> None:
    with pytest.raises(EngineError, match=r"not installed: CUDAExecutionProvider \(package onnxruntime-gpu\)"):
        CudaEngine(bundle, ort=StandInOrt("AzureExecutionProvider"))
