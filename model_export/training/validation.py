"""Top-1 accuracy of a model in training, on images prepared as the service will prepare them."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import nn

from model_export.datasets.dataset import Dataset
from model_export.training.batches import PixelBatch
from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.host import allowed_cores
from service.images.preprocess import Preprocessor


@torch.no_grad()
def top1(model: nn.Module, data: Dataset, preprocessing: Preprocessing, batch: int, device: torch.device) -> float:
    """Share of `data` whose largest logit is its class; `batch` images at a time, in float32."""
    preprocess = Preprocessor(preprocessing)
    labels = torch.tensor(data.labels)

    def pixels(index: int) -> Pixels:
        return preprocess(data.load(index))

    correct = 0
    with ThreadPoolExecutor(max(1, round(allowed_cores()))) as pool:
        for start in range(0, len(data), batch):
            chosen = range(start, min(start + batch, len(data)))
            stacked = torch.from_numpy(np.stack(list(pool.map(pixels, chosen))))
            images, classes = PixelBatch(stacked, labels[start : start + batch], preprocessing).part(0, batch, device)
            correct += int((model(images).argmax(dim=1) == classes).sum())
    return correct / len(data)
