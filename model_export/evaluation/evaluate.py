"""Run a classifier over a labelled dataset, through the service's own preprocessing."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from model_export.datasets.data import Dataset
from model_export.errors import ExportError
from model_export.evaluation.scores import Classes, Logits
from service.arrays import PixelBatch, Pixels
from service.bundles.manifest import Preprocessing
from service.host import allowed_cores
from service.images.preprocess import Preprocessor


class EvaluationError(ExportError):
    """A dataset that does not fit the model; the message says why."""


@dataclass(frozen=True)
class Answers:
    """What a classifier said, and how long it took: `run_seconds` of it inside the classifier."""

    logits: Logits  # [N, classes]
    seconds: float
    run_seconds: float


def answer_all(
    dataset: Dataset, preprocessing: Preprocessing, run: Callable[[PixelBatch], Logits], batch_size: int
) -> Answers:
    """Every image's logits, in order; images are decoded in threads while the classifier runs."""
    run_seconds, logits = 0.0, []
    started = time.perf_counter()
    with tqdm(total=len(dataset), desc="evaluate", unit="img") as progress:
        for pixels in _batches(dataset, Preprocessor(preprocessing), batch_size):
            run_started = time.perf_counter()
            logits.append(run(pixels))
            run_seconds += time.perf_counter() - run_started
            progress.update(len(pixels))
    return Answers(np.concatenate(logits), time.perf_counter() - started, run_seconds)


def _batches(dataset: Dataset, preprocess: Preprocessor, batch_size: int) -> Iterator[PixelBatch]:
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


def true_classes(dataset: Dataset, labels: tuple[str, ...] | None, classes: int) -> Classes:
    """The model's class of every image.

    A dataset's class is the model's class of the same name; without common names, classes named 0, 1, 2, ... are
    indices, and as many classes as the model has are taken in order. Raises EvaluationError if none of these fits.
    """
    names = dataset.classes
    if labels and set(names) <= set(labels):
        index_of = [labels.index(name) for name in names]
    elif all(name.isdecimal() and int(name) < classes for name in names):
        index_of = [int(name) for name in names]
    elif len(names) == classes and not set(names) & set(labels or ()):
        index_of = list(range(classes))
    else:
        unknown = [name for name in names if not labels or name not in labels]
        raise EvaluationError(
            f"the data's {len(names)} classes do not match the model's {classes}: "
            f"{', '.join(unknown[:5])} are not among its labels"
        )
    truth: Classes = np.array(index_of, dtype=np.int64)[np.asarray(dataset.labels)]
    return truth
