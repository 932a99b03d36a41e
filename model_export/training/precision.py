"""bfloat16 or float32 on a CPU: whichever trains faster here, measured on the first images."""

import itertools
import math
import time

import torch
from torch import nn

from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import Batch
from model_export.training.gradient import accumulate_gradient

_GAIN = 1.2  # that bfloat16 must have: its rounding is not worth less
_LEAST_MACS = 10**8  # below, a step's overheads decide, by chance
_IMAGES = 32
_ROUNDS = 3


def bf16_speedup(model: MlpMixer, batch: Batch, micro_batch: int, loss_of: nn.Module) -> float:
    """How many times faster a CPU takes gradients in bfloat16 than in float32; 1 for a model too small to tell.

    The weights stay as they are.
    """
    images = min(len(batch), micro_batch, _IMAGES)
    if images * model.config.macs < _LEAST_MACS:
        return 1.0
    part = _FirstImages(batch, images)
    seconds = {True: math.inf, False: math.inf}
    for bf16, _ in itertools.product((True, False), range(2)):  # caches fill, kernels are made
        accumulate_gradient(model, part, images, loss_of, torch.device("cpu"), bf16)
    for _, bf16 in itertools.product(range(_ROUNDS), (True, False)):
        started = time.perf_counter()
        accumulate_gradient(model, part, images, loss_of, torch.device("cpu"), bf16)
        seconds[bf16] = min(seconds[bf16], time.perf_counter() - started)
    model.zero_grad()
    return seconds[False] / seconds[True]


def worth_it(speedup: float) -> bool:
    """Whether bfloat16 gains enough."""
    return speedup >= _GAIN


class _FirstImages:
    """The first images of a batch."""

    def __init__(self, batch: Batch, images: int) -> None:
        self._batch, self._images = batch, images

    def __len__(self) -> int:
        return self._images

    def part(self, start: int, stop: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """As the batch does."""
        return self._batch.part(start, min(stop, self._images), device)
