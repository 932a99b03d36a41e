"""Calibration: the user's own images, and what every dense layer reads on them."""

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
from service.arrays import PixelBatch, Pixels
from service.bundles.manifest import Preprocessing
from service.errors import ServiceError

_LEAST, _MOST = 16, 512  # images
_HELD_OUT_EVERY = 4  # one image in so many judges, the others calibrate
_BATCH = 4
_SAMPLE = 8192  # values of a layer kept from each batch
PERCENTILES = (100.0, 99.999, 99.99)


class CalibrationError(ExportError):
    """Images that cannot calibrate; the message says why."""


@dataclass(frozen=True)
class Calibration:
    """Pixels uint8 [N, H, W, 3] that ranges are measured on, and others that judge the result, with their names."""

    pixels: PixelBatch
    held_out: PixelBatch
    held_out_names: tuple[str, ...]


def calibration_files(source: str) -> list[Path]:
    """The images of a folder that calibrate, at most 512, evenly taken; none for "digits", which are in no files.

    Raises CalibrationError if there is no such folder, or too few in it.
    """
    if source == "digits":
        return []
    if not Path(source).is_dir():
        raise CalibrationError(f"{source}: no such folder of images")
    paths = list(image_files(Path(source)))
    if len(paths) < _LEAST:
        raise CalibrationError(f"{source}: holds {len(paths)} images; calibration needs at least {_LEAST}")
    return [paths[index] for index in np.linspace(0, len(paths) - 1, min(len(paths), _MOST)).astype(int)]


def read_calibration(source: str, preprocessing: Preprocessing) -> Calibration:
    """Decode and preprocess images as the service does: a folder with images at any depth, or "digits".

    Of more than 512 images at most as many are taken, evenly. Every fourth is held out. Raises CalibrationError if
    there are fewer than 16 different ones, or naming the image that does not decode.
    """
    if source == "digits":
        from model_export.datasets.digits import training_pngs  # noqa: PLC0415 - scikit-learn is slow to import

        encoded = training_pngs()
    else:
        encoded = {str(path): path.read_bytes() for path in calibration_files(source)}
    prepare = pipeline(preprocessing)
    distinct: dict[bytes, tuple[str, Pixels]] = {}
    for name, image in tqdm(encoded.items(), desc="calibration images", unit="image"):
        try:
            pixels = prepare(image)
        except ServiceError as error:
            raise CalibrationError(f"{name}: {error}") from None
        distinct[pixels.tobytes()] = name, pixels
    if len(distinct) < _LEAST:
        raise CalibrationError(f"{source}: holds {len(distinct)} different images; calibration needs at least {_LEAST}")
    judges = np.arange(len(distinct)) % _HELD_OUT_EVERY == 0
    names, images = zip(*distinct.values(), strict=True)
    stacked = np.stack(images)
    return Calibration(stacked[~judges], stacked[judges], tuple(np.array(names)[judges].tolist()))


def measure_layer_inputs(graph: MixerGraph, pixels: PixelBatch) -> dict[float, dict[str, LayerInput]]:
    """What each dense layer of a float32 graph reads, by layer, for each percentile at which its range may be cut."""
    layers = graph.layer_inputs
    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for tensor in layers.values():
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, None))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    chance = np.random.default_rng(0)
    samples: dict[str, list[npt.NDArray[np.float32]]] = {layer: [] for layer in layers}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    extremes = dict.fromkeys(layers, (np.inf, -np.inf))
    for start in tqdm(range(0, len(pixels), _BATCH), desc="calibrate", unit="batch"):
        batch = pixels[start : start + _BATCH]
        for layer, values in zip(layers, session.run(list(layers.values()), {"images": batch}), strict=True):
            # Token mixing reads columns: its features are the tokens.
            features_last = values.transpose(0, 2, 1) if "token_mixing" in layer else values
            mean = features_last.reshape(-1, features_last.shape[-1]).mean(axis=0, dtype=np.float64)
            sums[layer] = sums.get(layer, 0.0) + mean * len(batch)
            low, high = extremes[layer]
            extremes[layer] = min(low, float(values.min())), max(high, float(values.max()))
            # By chance: a stride would meet the same channels again and again.
            samples[layer].append(values.ravel()[chance.integers(0, values.size, _SAMPLE)])
    means = {layer: (total / len(pixels)).astype(np.float32) for layer, total in sums.items()}
    ranges: dict[float, dict[str, tuple[float, float]]] = {
        percentile: {
            layer: tuple(np.percentile(np.concatenate(samples[layer]), [100 - percentile, percentile]))
            for layer in layers
        }
        for percentile in PERCENTILES
    }
    ranges[100.0] = extremes  # which a sample may lack
    return {
        percentile: {layer: LayerInput(float(low), float(high), means[layer]) for layer, (low, high) in cut.items()}
        for percentile, cut in ranges.items()
    }
