"""A dataset's own mean and standard deviation."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from model_export.datasets.dataset import Dataset
from service.bundles.manifest import Preprocessing
from service.images.preprocess import Preprocessor

_ENOUGH = 10_000  # images; the figures do not move beyond


def with_measured_normalisation(preprocessing: Preprocessing, data: Dataset) -> Preprocessing:
    """The same, with mean and std (of values in 0..1, by channel) over all pixels of `data` as it prepares them.

    Of a large dataset, 10,000 images evenly spread are measured. A std below one level of 255 counts as one.
    """
    preprocess = Preprocessor(preprocessing)

    def moments(index: int) -> tuple[list[float], list[float]]:
        pixels = preprocess(data.load(index)).reshape(-1, 3) / 255
        return pixels.mean(axis=0).tolist(), np.square(pixels).mean(axis=0).tolist()

    indices = np.unique(np.linspace(0, len(data) - 1, _ENOUGH).round().astype(int)).tolist()
    with ThreadPoolExecutor() as pool:
        mean, mean_square = np.mean(list(pool.map(moments, indices)), axis=0)
    std = np.sqrt(np.maximum(mean_square - np.square(mean), 1 / 255**2))
    measured = {"mean": tuple(mean.round(6).tolist()), "std": tuple(std.round(6).tolist())}
    return preprocessing.model_copy(update=measured)
