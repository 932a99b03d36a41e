"""Training batches: in an order, with pixels and mixing, that follow from the seed and nothing else."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from model_export.datasets.dataset import Dataset
from model_export.training.augment import Augmentation
from service.arrays import Pixels
from service.bundles.manifest import Preprocessing
from service.host import allowed_cores

_AHEAD = 2  # batches in preparation while one is learnt from


class Batch(Protocol):
    """The images of one step, prepared part by part so that only the pixels of all are in memory at once."""

    def __len__(self) -> int: ...

    def part(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Normalised images [n, 3, H, W] and targets: classes, int64 [n], or their shares, float32 [n, classes]."""


class Batches(Protocol):
    """All batches of a training run, one after the other."""

    @property
    def images(self) -> int:
        """Images an epoch."""

    @property
    def size(self) -> int:
        """Images a batch, at most."""

    def steps_in(self, epochs: int) -> int:
        """Batches in so many epochs."""

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """The batches of steps `first` to `stop` - 1."""

    def state(self) -> dict[str, Tensor]:
        """What the batches to come depend on beside the step, for `restore`."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go back to where `state` was told."""


@dataclass(frozen=True)
class PixelBatch:
    """Pixels uint8 [N, H, W, 3], classes int64 [N], and the share that each image keeps beside its neighbour."""

    pixels: Tensor
    targets: Tensor
    preprocessing: Preprocessing
    share: float = 1.0  # 1: no mixup
    classes: int = -1  # needed for mixup

    def __len__(self) -> int:
        return len(self.targets)

    def part(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mixup (Zhang et al. 2018) adds (1 - share) of the image before, the last one before the first."""
        chosen = torch.arange(start, min(stop, len(self)))
        images, targets = self.pixels[chosen].to(device).float(), self.targets[chosen].to(device)
        if self.share < 1:
            before = (chosen - 1) % len(self)
            images = torch.lerp(self.pixels[before].to(device).float(), images, self.share)
            one_hot = functional.one_hot(torch.stack([self.targets[before].to(device), targets]), self.classes).float()
            targets = torch.lerp(one_hot[0], one_hot[1], self.share)
        mean = torch.tensor(self.preprocessing.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(self.preprocessing.std, device=device).view(1, 3, 1, 1)
        return (images.permute(0, 3, 1, 2) / 255 - mean) / std, targets


class AugmentedBatches:
    """Batches of a dataset, each image augmented anew in every epoch by a pool of threads.

    Epochs follow each other without a seam: every batch is whole, and the one that ends an epoch begins the next. Each
    random number comes from (seed, epoch, image) or (seed, step), so the number of threads changes nothing.
    """

    def __init__(
        self, data: Dataset, augmentation: Augmentation, size: int, mixup: float, seed: int, workers: int | None = None
    ) -> None:
        self.data = data
        self.augmentation = augmentation
        self.size = min(size, len(data))
        self.mixup = mixup
        self.seed = seed
        self.workers = workers or max(1, round(allowed_cores()))
        self.labels = torch.tensor(data.labels)
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    @property
    def images(self) -> int:
        """Images an epoch: all of them."""
        return len(self.data)

    def steps_in(self, epochs: int) -> int:
        """To the nearest; at least as many as epochs."""
        return max(epochs, round(epochs * len(self.data) / self.size))

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """Each epoch in an order of its own; raises DataError for an image that cannot be read."""
        with ThreadPoolExecutor(self.workers) as pool:
            prepared: deque[tuple[int, list[int], list[Future[Pixels]]]] = deque()
            try:
                for step in range(first, stop + _AHEAD):
                    if step < stop:
                        chosen = list(self._chosen(step))
                        pixels = [pool.submit(self._pixels, epoch, index) for epoch, index in chosen]
                        prepared.append((step, [index for _, index in chosen], pixels))
                    if prepared and (len(prepared) > _AHEAD or step >= stop):
                        yield self._batch(*prepared.popleft())
            finally:
                pool.shutdown(cancel_futures=True)

    def state(self) -> dict[str, Tensor]:
        """Nothing: a step's number tells all."""
        return {}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Nothing to restore."""

    def _chosen(self, step: int) -> Iterator[tuple[int, int]]:
        """(epoch, image) of each place in a batch."""
        for place in range(step * self.size, (step + 1) * self.size):
            epoch, position = divmod(place, len(self.data))
            yield epoch, int(self._order(epoch)[position])

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._orders:
            self._orders = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders[epoch] = self._random("order", epoch).permutation(len(self.data))
        return self._orders[epoch]

    def _batch(self, step: int, chosen: list[int], pixels: list[Future[Pixels]]) -> PixelBatch:
        share = 1.0
        if self.mixup:
            share = self._random("mixup", step).beta(self.mixup, self.mixup)
            share = max(share, 1 - share)
        stacked = torch.from_numpy(np.stack([future.result() for future in pixels]))
        preprocessing = self.augmentation.preprocessing
        return PixelBatch(stacked, self.labels[chosen], preprocessing, share, len(self.data.classes))

    def _pixels(self, epoch: int, index: int) -> Pixels:
        return self.augmentation(self.data.load(index), self._random("image", epoch, index))

    def _random(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([*purpose.encode(), self.seed, *numbers])
