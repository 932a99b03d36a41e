"""Every engine gives features beside logits, in the same pass, and the logits are those of a pass without."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.bundles.bundle import Bundle, load_bundle
from service.engines.choice import cpu_engines
from service.engines.engine import Engine
from service.engines.gpu.cuda_engine import PROVIDER, CudaEngine
from service.engines.openvino_engine import OpenVinoEngine
from tests.gpu_doubles import StandInOrt

DIGITS = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"
ENGINES: dict[str, Callable[[Bundle], Engine]] = {
    "onnxruntime": lambda bundle: cpu_engines(bundle.model_path, "int8", 1)["onnxruntime"](),
    "openvino": lambda bundle: cpu_engines(bundle.model_path, "int8", 1)["openvino"](),
    "openvino side by side": lambda bundle: OpenVinoEngine(bundle.model_path, 2, "int8", streams=2),
    "cuda": lambda bundle: CudaEngine(bundle, buckets=(1, 4), ort=StandInOrt(PROVIDER)),  # type: ignore[arg-type]
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param](load_bundle(DIGITS))


@pytest.mark.parametrize("size", [1, 3, 5])
def test_all_outputs_of_one_pass(engine: Engine, size: int) -> None:
    pixels = np.random.default_rng(size).integers(0, 256, (size, 32, 32, 3), np.uint8)
    outputs = engine.outputs(pixels)
    assert {name: (output.shape, output.dtype) for name, output in outputs.items()} == {
        "logits": ((size, 10), np.float32),
        "features": ((size, 128), np.float32),
    }
    assert np.array_equal(engine.run(pixels), outputs["logits"])


def test_row_i_of_the_features_is_of_image_i(engine: Engine) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    features, turned = engine.outputs(pixels)["features"], engine.outputs(pixels[::-1])["features"]
    assert np.array_equal(turned[::-1], features)
    assert len(np.unique(features, axis=0)) == 4


def test_features_survive_the_next_pass(engine: Engine) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    features = engine.outputs(pixels)["features"]
    before = features.copy()
    engine.outputs(255 - pixels)
    assert np.array_equal(features, before)
