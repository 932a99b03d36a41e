"""Calibration: the user's own images, and what every dense layer reads on them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from tqdm import tqdm

from model_export.bundles.onnx_graph import LayerInput, MixerGraph
from model_export.bundles.parity import pipeline
from model_export.datasets.image_folder import image_files
from model_export.errors import ExportError
from service.engine import PixelBatch
from service.errors import ServiceError
from service.manifest import Preprocessing

_LEAST, _MOST = 16, 512  # images
_HELD_OUT_EVERY = 4  # one image in so many judges, the others calibrate
_BATCH = 4
_SAMPLE = 8192  # values of a layer kept from each batch
_PERCENTILES = (100.0, 99.999, 99.99, 99.9)


class CalibrationError(ExportError):
    """Images that cannot calibrate; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """Pixels uint8 [N, H, W, 3] that ranges are measured on, and others that judge the result."""

    pixels: PixelBatch
    held_out: PixelBatch


def read_calibration(source: str, preprocessing: Preprocessing) -> Calibration:
    """Decode and preprocess images as the service does: a folder with images at any depth, or "digits".

    Of more than 512 images at most as many are taken, evenly. Every fourth is held out. Raises CalibrationError if there
    are fewer than 16, or naming the image that does not decode.
    """
    if source == "digits":
        from model_export.datasets.digits import training_pngs  # noqa: PLC0415 - scikit-learn is slow to import

        encoded = training_pngs()
    elif Path(source).is_dir():
        paths = list(image_files(Path(source)))
        encoded = {str(path): path.read_bytes() for path in paths[:: max(1, math.ceil(len(paths) / _MOST))]}
    else:
        raise CalibrationError(f"{source}: no such folder of images")
    if len(encoded) < _LEAST:
        raise CalibrationError(f"{source}: holds {len(encoded)} images; calibration needs at least {_LEAST}")
    prepare = pipeline(preprocessing)
    pixels = []
    for name, image in tqdm(encoded.items(), desc="calibration images", unit="image"):
        try:
            pixels.append(prepare(image))
        except ServiceError as error:
            raise CalibrationError(f"{name}: {error}") from None
    judges = np.arange(len(pixels)) % _HELD_OUT_EVERY == 0
    stacked = np.stack(pixels)
    return Calibration(stacked[~judges], stacked[judges])


def measure_layer_inputs(graph: MixerGraph, pixels: PixelBatch) -> dict[str, LayerInput]:
    """Ranges and means of what each dense layer of a float32 graph reads, by layer.

    A range is cut at the percentile (of 100 to 99.9) that rounds a sample of the values to 8 bits with the least
    squared error.
    """
    layers = {layer: tensor for layer, tensor in graph.layer_inputs.items() if layer != "head"}
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in layers.values():
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    samples: dict[str, list[npt.NDArray[np.float32]]] = {layer: [] for layer in layers}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    extremes = {layer: (np.inf, -np.inf) for layer in layers}
    for start in tqdm(range(0, len(pixels), _BATCH), desc="calibrate", unit="batch"):
        batch = pixels[start : start + _BATCH]
        for layer, values in zip(layers, session.run(list(layers.values()), {"images": batch}), strict=True):
            # Token mixing reads columns: its features are the tokens.
            features_last = values.transpose(0, 2, 1) if "token_mixing" in layer else values
            mean = features_last.reshape(-1, features_last.shape[-1]).mean(axis=0, dtype=np.float64)
            sums[layer] = sums.get(layer, 0.0) + mean * len(batch)
            low, high = extremes[layer]
            extremes[layer] = min(low, float(values.min())), max(high, float(values.max()))
            samples[layer].append(values.ravel()[:: max(1, values.size // _SAMPLE)])
    inputs = {}
    for layer in layers:
        low, high = _best_range(np.concatenate(samples[layer]), *extremes[layer])
        inputs[layer] = LayerInput(low, high, (sums[layer] / len(pixels)).astype(np.float32))
    return inputs


def _best_range(sample: npt.NDArray[np.float32], low: float, high: float) -> tuple[float, float]:
    candidates = []
    for percentile in _PERCENTILES:
        # The sample may lack the extremes, which count at 100 %.
        cut = (low, high) if percentile == 100 else tuple(np.percentile(sample, [100 - percentile, percentile]))
        step = max(cut[1] - cut[0], 1e-12) / 255
        rounded = np.clip(np.rint((sample - cut[0]) / step), 0, 255) * step + cut[0]
        candidates.append((float(np.square(rounded - sample).mean()), float(cut[0]), float(cut[1])))
    _, low, high = min(candidates)
    return low, high
