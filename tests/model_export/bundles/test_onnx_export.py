from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model_export.bundles.onnx_export import export_onnx, fold_normalisation
from model_export.checkpoints.checkpoint import read_checkpoint
from service.manifest import Preprocessing


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path) -> bytes:
    return export_onnx(read_checkpoint(tiny_checkpoint))


def test_the_interface_is_the_contracts(exported: bytes) -> None:
    model = onnx.load_from_string(exported)
    (images,), (logits,) = model.graph.input, model.graph.output
    assert (images.name, logits.name) == ("images", "logits")
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert logits.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    batch, *rest = images.type.tensor_type.shape.dim
    assert batch.dim_param
    assert [dim.dim_value for dim in rest] == [16, 16, 3]
    assert [dim.dim_value for dim in logits.type.tensor_type.shape.dim][1:] == [7]
    assert {opset.domain: opset.version for opset in model.opset_import}[""] >= 20


def test_gelu_stays_one_operator(exported: bytes) -> None:
    operators = [node.op_type for node in onnx.load_from_string(exported).graph.node]
    assert operators.count("Gelu") == 4
    assert "Erf" not in operators


def test_nothing_of_this_machine_is_left_inside(exported: bytes) -> None:
    for trace in (b".py", str(Path.cwd()).encode(), b"site-packages", b"stack_trace", b"pkg.torch"):
        assert trace not in exported


def test_the_same_checkpoint_gives_the_same_bytes(tiny_checkpoint: Path, exported: bytes) -> None:
    assert export_onnx(read_checkpoint(tiny_checkpoint)) == exported


def test_folding_is_exact() -> None:
    torch.manual_seed(0)
    stem = torch.nn.Conv2d(3, 8, kernel_size=4, stride=4)
    spec = Preprocessing(
        resize_short=8, interpolation="bicubic", crop=8, mean=(0.485, 0.456, 0.406), std=(0.2, 0.3, 0.4)
    )
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8)).astype(np.float32))
    mean, std = torch.tensor(spec.mean).view(1, 3, 1, 1), torch.tensor(spec.std).view(1, 3, 1, 1)
    expected = stem((pixels / 255 - mean) / std)
    fold_normalisation(stem, spec)
    torch.testing.assert_close(stem(pixels), expected, atol=1e-5, rtol=1e-5)
