"""What every other server does for an image, whatever its idiom: decode, resize, crop, one pass, the five best classes.

Of a bundle it takes what anybody would: the ONNX file, the labels, and the preprocessing that its manifest states. It
runs in each server's own environment, and so needs numpy, Pillow and an engine alone: onnxruntime, or where the
environment variable ENGINE is `openvino`, that.
"""

import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from service.host import allowed_cores

Pixels = npt.NDArray[np.uint8]  # [crop, crop, 3] RGB, one image
Answer = dict[str, list[dict[str, Any]]]  # as JSON: {"predictions": [{"index", "label", "probability"}, ...]}

CORES = max(1, int(allowed_cores()))
_TOP = 5


Run = Callable[[npt.NDArray[Any]], npt.NDArray[np.float32]]  # a batch as the model takes it -> logits [N, classes]


def _onnxruntime(model: Path, threads: int) -> tuple[Run, bool]:
    """The pass, and whether it takes pixels."""
    import onnxruntime  # noqa: PLC0415 - a server's environment has one of the engines

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, ["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    logits = session.get_outputs()[0].name  # a bundle has features beside them
    return lambda batch: session.run([logits], {given.name: batch})[0], given.type == "tensor(uint8)"


def _openvino(model: Path, threads: int) -> tuple[Run, bool]:
    import openvino  # noqa: PLC0415

    options = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,  # or every worker's threads would be bound to the same first core
    }
    compiled = openvino.Core().compile_model(model, "CPU", options)
    request = compiled.create_infer_request()
    return lambda batch: request.infer([batch])[0], compiled.input(0).element_type == openvino.Type.u8


class Classifier:
    """One session over a bundle's model, or over another export of the same weights.

    `model` takes uint8 [N, H, W, 3] as a bundle's does, or float32 [N, 3, H, W], normalised. `threads` of 0 are the
    engine's own choice.
    """

    def __init__(self, bundle: Path, threads: int = 0, model: Path | None = None) -> None:
        manifest = json.loads((bundle / "manifest.json").read_text())
        labels = manifest.get("labels")
        self._labels = (bundle / labels).read_text().splitlines() if labels else None
        self._preprocessing = manifest["preprocessing"]
        start = {"onnxruntime": _onnxruntime, "openvino": _openvino}[os.environ.get("ENGINE", "onnxruntime")]
        self._run, self._takes_pixels = start(model or bundle / "model.onnx", threads)

    def pixels(self, image: bytes | Image.Image) -> Pixels:
        """Short side to the manifest's `resize_short`, centre crop: uint8 [crop, crop, 3]."""
        opened = image if isinstance(image, Image.Image) else Image.open(io.BytesIO(image))
        rgb = opened.convert("RGB")
        short, crop = self._preprocessing["resize_short"], self._preprocessing["crop"]
        filter_ = Image.Resampling[self._preprocessing["interpolation"].upper()]
        width, height = (max(short, short * side // min(rgb.size)) for side in rgb.size)
        left, top = round((width - crop) / 2), round((height - crop) / 2)
        return np.asarray(rgb.resize((width, height), filter_).crop((left, top, left + crop, top + crop)))

    def probabilities(self, batch: Sequence[Pixels] | Pixels) -> npt.NDArray[np.float32]:
        """One pass: float32 [N, classes]."""
        logits = self._run(self._as_input(np.asarray(batch)))
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: npt.NDArray[np.float32] = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def answers(self, batch: Sequence[Pixels] | Pixels) -> list[Answer]:
        """One pass: each image's five best classes."""
        return [self._answer(of_one) for of_one in self.probabilities(batch)]

    def _as_input(self, pixels: Pixels) -> npt.NDArray[Any]:
        if self._takes_pixels:
            return pixels
        mean, std = (np.array(self._preprocessing[name], np.float32) for name in ("mean", "std"))
        return ((pixels / np.float32(255) - mean) / std).transpose(0, 3, 1, 2)

    def _answer(self, probabilities: npt.NDArray[np.float32]) -> Answer:
        return {
            "predictions": [
                {
                    "index": int(index),
                    "label": self._labels[index] if self._labels else str(index),
                    "probability": float(probabilities[index]),
                }
                for index in np.argsort(-probabilities)[:_TOP]
            ]
        }
