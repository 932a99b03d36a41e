"""Random weights as Flax draws them, for training a variant as the paper's code does."""

import math
from dataclasses import replace

import torch
from torch import Generator

from model_export.checkpoints.checkpoint import Checkpoint

_TRUNCATED = 0.87962566103423978  # standard deviation of a normal distribution that is cut off at two of its own


def lecun_normal(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """Matrices and the stem LeCun-normal (cut off at two deviations), biases zero, LayerNorms one, the head zero.

    These are the defaults of flax.linen.Dense and Conv, and vit_jax's and big_vision's head.
    """
    generator = Generator().manual_seed(seed)
    state = {}
    for name, tensor in checkpoint.state.items():
        if name.endswith("bias") or name == "head.weight":
            state[name] = torch.zeros_like(tensor)
        elif tensor.ndim == 1:
            state[name] = torch.ones_like(tensor)
        else:
            deviation = math.sqrt(1 / tensor[0].numel()) / _TRUNCATED
            state[name] = torch.nn.init.trunc_normal_(
                torch.empty_like(tensor), std=deviation, a=-2 * deviation, b=2 * deviation, generator=generator
            )
    return replace(checkpoint, state=state)
