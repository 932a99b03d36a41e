"""The digits recipe's batches and its evaluation: the digits' own augmentation, both polarities."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from model_export.datasets import digits
from model_export.training.batches import Batch
from service.bundles.manifest import Evaluation


@dataclass(frozen=True)
class DigitBatch:
    """Normalised images [N, 3, 32, 32] and classes [N]."""

    images: Tensor
    classes: Tensor

    def __len__(self) -> int:
        return len(self.classes)

    def part(self, start: int, stop: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """A slice of each."""
        return self.images[start:stop].to(device), self.classes[start:stop].to(device)


class DigitBatches:
    """Batches of the digits' training part; one generator draws order and augmentation, in turn."""

    def __init__(self, train: digits.Digits, size: int, seed: int) -> None:
        self.train = train
        self.size = size
        self.generator = Generator().manual_seed(seed)
        self._epoch = 0  # the one in progress
        self._epoch_start = self.generator.get_state()

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self.train.classes)

    def steps_in(self, epochs: int) -> int:
        """Each epoch ends with a smaller batch of what is left."""
        return epochs * -(-len(self.train.classes) // self.size)

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """From the start of the epoch in progress, whose steps before `first` are drawn too and dropped."""
        self.generator.set_state(self._epoch_start)
        steps = self.steps_in(1)
        while self._epoch * steps < stop:
            order = torch.randperm(len(self.train.classes), generator=self.generator)
            for step in range(self._epoch * steps, min(stop, (self._epoch + 1) * steps)):
                start = step % steps * self.size
                chosen = order[start : start + self.size]
                images = digits.augment(self.train.ink[chosen], self.generator)
                if step >= first:
                    yield DigitBatch(digits.normalise(images), self.train.classes[chosen])
            if stop < (self._epoch + 1) * steps:
                return
            self._epoch, self._epoch_start = self._epoch + 1, self.generator.get_state()

    def state(self) -> dict[str, Tensor]:
        """The epoch in progress, and the generator's state at its start."""
        return {"epoch": torch.tensor(self._epoch), "generator": self._epoch_start}

    def restore(self, state: dict[str, Tensor]) -> None:
        """The next batches are drawn from that epoch's start."""
        self._epoch, self._epoch_start = int(state["epoch"]), state["generator"]


@torch.no_grad()
def evaluate_digits(model: nn.Module, held_out: digits.Digits, device: torch.device | None = None) -> Evaluation:
    """Top-1 accuracy over the held-out digits in both polarities: white on black as scanned, and black on white."""
    correct: list[Tensor] = []
    for on_white in (False, True):
        logits = model(digits.normalise(digits.render(held_out.ink, on_white)).to(device or "cpu")).cpu()
        correct.append(logits.argmax(dim=1) == held_out.classes)
    return Evaluation(
        dataset="scikit-learn digits, both polarities",
        split=digits.HELD_OUT_SPLIT,
        images=sum(len(part) for part in correct),
        top1=round(torch.cat(correct).float().mean().item(), 6),
    )
