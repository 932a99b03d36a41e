"""Datasets made of others: some images of one, and two as one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from model_export.datasets.dataset import DataError, Dataset


@dataclass(frozen=True)
class Subset:
    """Some images of a dataset."""

    data: Dataset
    indices: tuple[int, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """All of the dataset's."""
        return self.data.classes

    @property
    def labels(self) -> Sequence[int]:
        """Of these images."""
        labels = self.data.labels
        return [labels[index] for index in self.indices]

    def __len__(self) -> int:
        return len(self.indices)

    def load(self, index: int) -> Image.Image:
        """As the dataset does."""
        return self.data.load(self.indices[index])

    def name(self, index: int) -> str:
        """As the dataset does."""
        return self.data.name(self.indices[index])


class Joined:
    """Two datasets with the same classes, one after the other."""

    def __init__(self, first: Dataset, second: Dataset) -> None:
        assert first.classes == second.classes
        self.classes = first.classes
        self.labels = (*first.labels, *second.labels)
        self._first, self._second = first, second

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        """As its own dataset does."""
        data, inside = self._place(index)
        return data.load(inside)

    def name(self, index: int) -> str:
        """As its own dataset does."""
        data, inside = self._place(index)
        return data.name(inside)

    def _place(self, index: int) -> tuple[Dataset, int]:
        return (self._first, index) if index < len(self._first) else (self._second, index - len(self._first))


def hold_out(data: Dataset, share: float, seed: int) -> tuple[Subset, Subset]:
    """(train, val): `share` of each class, at least one image of each class that has two, goes to val.

    Raises DataError if nothing is left for one of them.
    """
    labels = np.asarray(data.labels)
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out: set[int] = set()
    for label in range(len(data.classes)):
        of_class = order[labels[order] == label]
        if len(of_class) > 1:
            held_out.update(of_class[: max(1, round(share * len(of_class)))].tolist())
    train = tuple(index for index in range(len(labels)) if index not in held_out)
    if not held_out or not train:
        raise DataError(f"{len(labels)} images in {len(data.classes)} classes are too few to hold {share:.0%} out")
    return Subset(data, train), Subset(data, tuple(sorted(held_out)))
