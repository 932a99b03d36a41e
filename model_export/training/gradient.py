"""One step's gradient, gathered over micro-batches that fit in memory, and its clipping."""

import torch
from torch import nn

from model_export.training.batches import Batch
from model_export.variants import MixerConfig

_BUDGET = 4 * 2**30  # bytes, on a CPU


def accumulate_gradient(
    model: nn.Module, batch: Batch, micro_batch: int, loss_of: nn.Module, device: torch.device, bf16: bool = False
) -> float:
    """Set the gradient of the batch's mean loss, `micro_batch` images at a time; returns that loss.

    `bf16` runs the matrix products in bfloat16 (autocast); weights and gradient stay float32.
    """
    for parameter in model.parameters():
        parameter.grad = None
    total = 0.0
    for start in range(0, len(batch), micro_batch):
        images, targets = batch.part(start, start + micro_batch, device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = model(images)
        loss = loss_of(logits.float(), targets) * (len(images) / len(batch))
        loss.backward()
        total += loss.item()
    return total


def micro_batch_for(config: MixerConfig, device: torch.device) -> int:
    """Images whose activations fit: in 4 GiB on a CPU, in half of a GPU's memory. At least 1.

    From the machine's size and not its free memory, since a run has to be repeatable.
    """
    tokens = config.tokens
    # Kept for the backward pass, a block: about nine [S, C] tables and each MLP's hidden layer three times.
    per_block = 9 * tokens * config.hidden + 3 * (
        tokens * config.channels_hidden + config.hidden * config.tokens_hidden
    )
    image = 4 * (config.layers * per_block + 6 * config.image_size**2)
    budget = torch.cuda.get_device_properties(device).total_memory // 2 if device.type == "cuda" else _BUDGET
    return max(1, budget // image)
