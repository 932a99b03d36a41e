"""onnxruntime's own quantisers, as their documentation uses them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime import quantization as q
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

FloatImages = npt.NDArray[np.float32]  # [N, 3, H, W]


def quantise_dynamic(source: Path, target: Path) -> None:
    """int8 weights by channel; activation scales computed at run time over the whole batch."""
    q.quantize_dynamic(
        _inferred(source),
        target,
        per_channel=True,
        weight_type=q.QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )


def quantise_static(source: Path, target: Path, images: FloatImages) -> None:
    """int8 weights by channel and symmetric int8 activations with scales from `images`, between QDQ pairs."""
    q.quantize_static(
        _inferred(source),
        target,
        _Images(images),
        quant_format=q.QuantFormat.QDQ,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        activation_type=q.QuantType.QInt8,
        weight_type=q.QuantType.QInt8,
        extra_options={"ActivationSymmetric": True},
    )


def _inferred(source: Path) -> onnx.ModelProto:
    """The model with its shapes inferred anew: the exporter leaves stale ones behind that stop the quantisers."""
    model = onnx.load(source)
    del model.graph.value_info[:]
    model = onnx.shape_inference.infer_shapes(model)
    add_pre_process_metadata(model)  # which the quantisers otherwise ask for
    return model


class _Images(q.CalibrationDataReader):  # type: ignore[misc]  # untyped base
    """Hands over one image at a time, then None."""

    def __init__(self, images: FloatImages) -> None:
        self._remaining: Iterator[FloatImages] = iter(images[:, None])

    def get_next(self) -> dict[str, FloatImages] | None:
        image = next(self._remaining, None)
        return None if image is None else {"images": image}
