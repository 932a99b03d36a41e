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

    @property
    def images(self) -> int:
        """Images an epoch."""
        return len(self.train.classes)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return -(-len(self.train.classes) // self.size)

    def epoch(self, number: int, first_step: int) -> Iterator[Batch]:
        """Draws the steps before `first_step` too, and drops them: the generator has to pass through them."""
        del number
        order = torch.randperm(len(self.train.classes), generator=self.generator)
        for step in range(self.steps):
            chosen = order[step * self.size : (step + 1) * self.size]
            images = digits.augment(self.train.ink[chosen], self.generator)
            if step >= first_step:
                yield DigitBatch(digits.normalise(images), self.train.classes[chosen])

    def state(self) -> dict[str, Tensor]:
        """The generator's."""
        return {"generator": self.generator.get_state()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Wind the generator back."""
        self.generator.set_state(state["generator"])


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
