from pathlib import Path

import numpy as np
import onnx
import pytest

from model_export.bundles.onnx_export import export_onnx, graph_of
from model_export.bundles.onnx_graph import LayerInput
from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from service.bundles.manifest import Precision, Preprocessing
from service.engines.choice import cpu_engines
from service.engines.engine import Engine
from tests.model_export import oracle

SPEC = Preprocessing(resize_short=16, interpolation="bicubic", crop=16, mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(tiny_checkpoint)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint) -> bytes:
    return export_onnx(checkpoint)


def engines(tmp_path: Path, model: bytes, precision: Precision) -> list[Engine]:
    (tmp_path / "model.onnx").write_bytes(model)
    return [build() for build in cpu_engines(tmp_path / "model.onnx", precision, threads=1).values()]


def test_the_interface_is_the_contracts(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    (images,), (logits, features) = model.graph.input, model.graph.output
    assert (images.name, logits.name, features.name) == ("images", "logits", "features")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {output.type.tensor_type.elem_type for output in model.graph.output} == {onnx.TensorProto.FLOAT}
    batch, *rest = images.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [16, 16, 3]
    assert [[d.dim_value for d in output.type.tensor_type.shape.dim][1:] for output in (logits, features)] == [
        [7],
        [16],
    ]
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 20}


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("fp16", 2e-2), ("bf16", 2e-1)])
@pytest.mark.parametrize("form", ["erf", "tanh"])
def test_every_precision_computes_the_papers_equations(
    checkpoint: Checkpoint, tmp_path: Path, precision: Precision, error: float, form: str
) -> None:
    """Against the numpy oracle, with a mean and a std that are not a half: folding them must be exact."""
    config = checkpoint.config.__class__(
        **{name: getattr(checkpoint.config, name) for name in checkpoint.config.__slots__} | {"gelu": form}
    )
    told = Checkpoint(config, checkpoint.state, SPEC, "mixer")
    weights = oracle.random_timm_weights()
    expected = np.stack([oracle.forward(weights, image, 0.4, 0.3, form) for image in PIXELS])
    for engine in engines(tmp_path, export_onnx(told, precision), precision):
        np.testing.assert_allclose(
            engine.run(PIXELS), expected, atol=error * np.abs(expected).max(), err_msg=engine.name
        )


def test_the_means_of_the_channels_are_not_mixed_up(checkpoint: Checkpoint, tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"mean": (0.1, 0.5, 0.9), "std": (0.2, 0.3, 0.4)})
    weights = oracle.random_timm_weights()
    expected = oracle.forward(weights, PIXELS[0], np.array(spec.mean), np.array(spec.std))  # type: ignore[arg-type]
    model = export_onnx(Checkpoint(checkpoint.config, checkpoint.state, spec, "mixer"))
    for engine in engines(tmp_path, model, "fp32"):
        np.testing.assert_allclose(engine.run(PIXELS[:1])[0], expected, atol=1e-5)


def test_float32_token_mixing_transposes_nothing(exported: bytes) -> None:
    operators = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    assert operators.count("Transpose") == 1  # the stem's, of bytes
    assert operators.count("Gelu") == 4


def test_sixteen_bits_are_sixteen_bits(checkpoint: Checkpoint) -> None:
    for precision, dtype in (("fp16", onnx.TensorProto.FLOAT16), ("bf16", onnx.TensorProto.BFLOAT16)):
        model = graph_of(checkpoint, precision, None).model
        wide = {tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT}
        assert wide == {"head.weight", "head.bias", "features.scale", "features.shift"}
        assert {tensor.data_type for tensor in model.graph.initializer} >= {dtype}


def test_only_the_layers_asked_for_are_quantised(checkpoint: Checkpoint) -> None:
    layer = "blocks.1.channel_mixing.dense_1"
    model = graph_of(checkpoint, "int8", {layer: LayerInput(-1.0, 1.0, np.zeros(32, np.float32))}).model
    integers = {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    }
    assert {name.removesuffix(".zero_point") for name in integers} == {f"{layer}.weight"}


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.2, 5.0), (0.0, 0.0), (0.5, 2.0)])
@pytest.mark.parametrize("layer", ["blocks.0.token_mixing.dense_1", "blocks.0.channel_mixing.dense_1"])
def test_a_quantised_layer_answers_with_numbers_whatever_its_range(
    checkpoint: Checkpoint, tmp_path: Path, layer: str, low: float, high: float
) -> None:
    """Ranges that hold no value, or nothing at all, must not divide by zero."""
    features = checkpoint.state[f"{layer}.weight"].shape[1]
    spec = LayerInput(low, high, np.zeros(features, np.float32))
    for engine in engines(tmp_path, export_onnx(checkpoint, "int8", {layer: spec}), "int8"):
        assert np.isfinite(engine.run(PIXELS)).all()


def test_nothing_of_this_machine_is_left_inside(exported: bytes) -> None:
    for trace in (b".py", str(Path.cwd()).encode(), b"site-packages", b"stack_trace", b"pkg.torch"):
        assert trace not in exported


def test_the_same_checkpoint_gives_the_same_bytes(tiny_checkpoint: Path, exported: bytes) -> None:
    assert export_onnx(read_checkpoint(tiny_checkpoint)) == exported
