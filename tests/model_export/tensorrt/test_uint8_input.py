import numpy as np
import onnx
import onnxruntime

from model_export.tensorrt.uint8_input import cast_first
from tests.model_export.tensorrt.models import uint8_model

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


def answer(model: bytes) -> np.ndarray:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": PIXELS})
    return np.asarray(logits)


def operators(model: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(model).graph.node]


def test_the_exported_model_answers_the_same_to_the_bit(exported: bytes, model: bytes) -> None:
    (reader,) = [node for node in onnx.load_from_string(model).graph.node if "images" in node.input]
    assert reader.op_type == "Cast"
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    assert np.array_equal(answer(model), answer(exported))


def test_a_longer_chain_of_moves() -> None:
    before = uint8_model(("Transpose", "0312"), ("Reshape", "shape"))
    after = cast_first(before)
    assert operators(after) == ["Cast", "Transpose", "Reshape", "Sqrt"]
    assert np.array_equal(answer(after), answer(before))


def test_nothing_to_do(model: bytes) -> None:
    assert cast_first(model) == model
    arithmetic = uint8_model(("Transpose", "0312"), ("Identity", ""))  # only transposes and reshapes are known to move
    assert cast_first(arithmetic) == arithmetic
