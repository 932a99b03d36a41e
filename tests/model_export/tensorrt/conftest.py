from pathlib import Path

import pytest

from model_export.bundles.onnx_export import export_onnx
from model_export.checkpoints.checkpoint import read_checkpoint
from model_export.tensorrt.uint8_input import cast_first


@pytest.fixture(scope="session")
def exported(tiny_checkpoint: Path) -> bytes:
    """tiny/4 as it is exported."""
    return export_onnx(read_checkpoint(tiny_checkpoint))


@pytest.fixture(scope="session")
def model(exported: bytes) -> bytes:
    """tiny/4 as TensorRT is given it."""
    return cast_first(exported)
