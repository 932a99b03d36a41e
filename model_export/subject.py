"""What can be evaluated: a bundle, run by onnxruntime as it is served, or a checkpoint, run by torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model_export.checkpoint import Checkpoint, read_checkpoint
from model_export.scores import Logits
from service.bundle import load_bundle
from service.cores import allowed_cores
from service.manifest import Preprocessing
from service.onnx_engine import OnnxEngine

PixelBatch = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB


@dataclass(frozen=True)
class Subject:
    """A classifier of pixels."""

    name: str
    preprocessing: Preprocessing
    labels: tuple[str, ...] | None
    classes: int
    threads: int  # cores that `run` occupies
    run: Callable[[PixelBatch], Logits]


def open_subject(source: str) -> Subject:
    """A bundle's folder or anything that `read_checkpoint` takes.

    Raises BundleError, EngineError or CheckpointError.
    """
    threads = max(1, int(allowed_cores()))
    if (Path(source) / "manifest.json").is_file():
        bundle = load_bundle(Path(source))
        manifest = bundle.manifest
        engine = OnnxEngine(bundle.model_path, threads, ["CPUExecutionProvider"])
        name = f"{manifest.name}/{manifest.version}"
        return Subject(name, manifest.preprocessing, bundle.labels, manifest.classes, threads, engine.run)
    checkpoint = read_checkpoint(Path(source))
    torch.set_num_threads(threads)
    run = torch_runner(checkpoint)
    return Subject(source, checkpoint.preprocessing, checkpoint.labels, checkpoint.config.classes, threads, run)


def torch_runner(checkpoint: Checkpoint) -> Callable[[PixelBatch], Logits]:
    """Pixels -> the checkpoint's answer (without a head: its pooled features, [N, C]) in torch float32."""
    mean = torch.tensor(checkpoint.preprocessing.mean).view(1, 3, 1, 1)
    std = torch.tensor(checkpoint.preprocessing.std).view(1, 3, 1, 1)
    model = checkpoint.model()

    @torch.no_grad()
    def run(pixels: PixelBatch) -> Logits:
        answer: Logits = model((torch.tensor(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).numpy()
        return answer

    return run
