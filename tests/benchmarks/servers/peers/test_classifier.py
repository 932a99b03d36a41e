import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient
from onnx import TensorProto, helper
from PIL import Image

from benchmarks.photograph import photograph
from benchmarks.servers.peers.classifier import Classifier
from benchmarks.servers.plain import build_app
from service.bundles.manifest import Preprocessing
from service.images.preprocess import preparation
from tests.doubles import encode

PREPROCESSING = {
    "resize_short": 256,
    "interpolation": "bicubic",
    "crop": 224,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Its model is another export than ours: float32 [N, 3, H, W], of which the logits are the colours' means."""
    images = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])
    logits = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 3])
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    node = helper.make_node("ReduceMean", ["input", "axes"], ["output"], keepdims=0)
    graph = helper.make_graph([node], "colours", [images], [logits], [axes])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "c.onnx")
    manifest = {"labels": "labels.txt", "preprocessing": PREPROCESSING}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "labels.txt").write_text("red\ngreen\nblue\n")
    return tmp_path


def test_a_float_model_gets_normalised_pixels(bundle: Path) -> None:
    classifier = Classifier(bundle, model=bundle / "c.onnx")
    (red, blue) = classifier.answers(
        [classifier.pixels(Image.new("RGB", (300, 260), name)) for name in ("red", "blue")]
    )
    assert [it["predictions"][0]["label"] for it in (red, blue)] == ["red", "blue"]
    high, low = np.exp(2), np.exp(-2)  # (1 - 0.5) / 0.25 and (0 - 0.5) / 0.25
    assert red["predictions"][0]["probability"] == pytest.approx(high / (high + 2 * low))


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (224, 300), (64, 64)])
def test_its_pixels_are_the_services(bundle: Path, size: tuple[int, int]) -> None:
    image = encode(photograph(*size), "PNG")
    ours, _ = preparation(Preprocessing.model_validate(PREPROCESSING), max_pixels=10**6)(image)
    theirs = Classifier(bundle, model=bundle / "c.onnx").pixels(image)
    assert theirs.shape == (224, 224, 3)
    assert (
        np.abs(ours.astype(int) - theirs).mean() < 0.5
    )  # of 255: roundings, and the edges, where ours stops at the crop


def test_the_plain_server_answers_about_an_image_in_a_form(bundle: Path) -> None:
    client = TestClient(build_app(Classifier(bundle, model=bundle / "c.onnx")))
    assert client.get("/health").status_code == 200
    response = client.post("/predict", files={"file": encode(Image.new("RGB", (9, 9), "lime"), "PNG")})
    assert response.json()["predictions"][0]["label"] == "green"
