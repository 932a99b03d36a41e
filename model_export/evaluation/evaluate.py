"""Run a classifier over a labelled dataset, through the service's own preprocessing."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm import tqdm

from model_export.datasets.data import Dataset
from model_export.errors import ExportError
from model_export.evaluation.scores import Logits
from model_export.evaluation.squash import Resize, preprocessor
from service.arrays import PixelBatch, Pixels
from service.bundles.manifest import Preprocessing
from service.host import allowed_cores


class EvaluationError(ExportError):
    """A dataset that does not fit the model; the message says why."""


@dataclass(frozen=True)
class Answers:
    """What a classifier said, and how long it took: `run_seconds` of it inside the classifier."""

    logits: Logits  # [N, classes]
    seconds: float
    run_seconds: float


def answer_all(
    dataset: Dataset,
    preprocessing: Preprocessing,
    run: Callable[[PixelBatch], Logits],
    batch_size: int,
    resize: Resize = "short",
) -> Answers:
    """Every image's logits, in order; images are decoded in threads while the classifier runs."""
    run_seconds, logits = 0.0, []
    started = time.perf_counter()
    with tqdm(total=len(dataset), desc="evaluate", unit="img") as progress:
        for pixels in _batches(dataset, preprocessor(preprocessing, resize), batch_size):
            run_started = time.perf_counter()
            logits.append(run(pixels))
            run_seconds += time.perf_counter() - run_started
            progress.update(len(pixels))
    return Answers(np.concatenate(logits), time.perf_counter() - started, run_seconds)


def _batches(dataset: Dataset, preprocess: Callable[[Image.Image], Pixels], batch_size: int) -> Iterator[PixelBatch]:
    """Batches in order, at most two ahead of their use so that memory stays bounded."""

    def load(index: int) -> Pixels:
        return preprocess(dataset.load(index))

    with ThreadPoolExecutor(max(1, int(allowed_cores()))) as pool:
        starts = range(0, len(dataset), batch_size)
        waiting = []
        for start in starts:
            waiting.append([pool.submit(load, i) for i in range(start, min(start + batch_size, len(dataset)))])
            if len(waiting) > 2:
                yield np.stack([image.result() for image in waiting.pop(0)])
        for batch in waiting:
            yield np.stack([image.result() for image in batch])
