"""A Mixer for K times the resolution, from one trained at the original (appendix C of Tolstikhin et al. 2021).

The patch stays, so there are K*K times the tokens. The big image is cut into K x K equal parts, and the token-mixing
MLPs become block-diagonal: each part is mixed by its own copy of the trained MLP, D_S growing by K*K too. Before any
training, an image that repeats one K x K times therefore gets that one's logits.
"""

from dataclasses import replace

import torch
from torch import Tensor

from model_export.checkpoints.checkpoint import Checkpoint, CheckpointError


def grow(checkpoint: Checkpoint, image_size: int) -> Checkpoint:
    """The Mixer for `image_size` pixels a side, an integer multiple K of its own; K = 1 changes nothing.

    Preprocessing grows in proportion, so that the same part of an image is seen. Raises CheckpointError if
    `image_size` is no multiple.
    """
    config = checkpoint.config
    factor, rest = divmod(image_size, config.image_size)
    if rest or factor < 1:
        raise CheckpointError(
            f"image size {image_size} is no integer multiple of the {config.image_size} that the weights are for"
        )
    if factor == 1:
        return checkpoint
    copies = factor * factor
    # The blocks come part after part; the big image's tokens come row by row, through several parts. Only tokens are
    # put in order (dense_0's columns, dense_1's rows): hidden units have none of their own.
    row_by_row = _tokens_by_part(config.image_size // config.patch, factor).argsort()
    state = dict(checkpoint.state)
    for i in range(config.layers):
        mlp = f"blocks.{i}.token_mixing"
        state[f"{mlp}.dense_0.weight"] = _block_diagonal(state[f"{mlp}.dense_0.weight"], copies)[:, row_by_row]
        state[f"{mlp}.dense_0.bias"] = state[f"{mlp}.dense_0.bias"].repeat(copies)
        state[f"{mlp}.dense_1.weight"] = _block_diagonal(state[f"{mlp}.dense_1.weight"], copies)[row_by_row]
        state[f"{mlp}.dense_1.bias"] = state[f"{mlp}.dense_1.bias"].repeat(copies)[row_by_row]
    preprocessing = checkpoint.preprocessing
    return replace(
        checkpoint,
        config=replace(config, image_size=image_size, tokens_hidden=config.tokens_hidden * copies),
        state=state,
        preprocessing=preprocessing.model_copy(
            update={"resize_short": preprocessing.resize_short * factor, "crop": preprocessing.crop * factor}
        ),
        evaluation=None,
    )


def _tokens_by_part(side: int, factor: int) -> Tensor:
    """The big image's tokens, part after part and row by row within each: int64 [factor**2 * side**2].

    `side` is the small image's, in tokens.
    """
    grid = torch.arange((factor * side) ** 2).view(factor, side, factor, side)
    return grid.permute(0, 2, 1, 3).flatten()


def _block_diagonal(weight: Tensor, copies: int) -> Tensor:
    return torch.kron(torch.eye(copies), weight.contiguous())  # Flax's are read as transposed views
