"""The reference that engines are held to: the checkpoint itself in torch, normalisation as a step of its own."""

from collections.abc import Callable

import torch
from torch import Tensor
from tqdm import tqdm

from model_export.checkpoints.checkpoint import Checkpoint
from service.arrays import FEATURES, LOGITS, LogitBatch, Outputs, PixelBatch
from service.bundles.manifest import Preprocessing


def torch_runner(checkpoint: Checkpoint) -> Callable[[PixelBatch], LogitBatch]:
    """Pixels -> the checkpoint's answer (without a head: its pooled features, [N, C]) in torch float32."""
    model = checkpoint.model()

    @torch.no_grad()
    def run(pixels: PixelBatch) -> LogitBatch:
        answer: LogitBatch = model(normalised(pixels, checkpoint.preprocessing)).numpy()
        return answer

    return run


def normalised(pixels: PixelBatch, preprocessing: Preprocessing) -> Tensor:
    """Pixels uint8 [N, H, W, 3] -> what the network takes, float32 [N, 3, H, W], contiguous."""
    mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
    return ((torch.tensor(pixels).permute(0, 3, 1, 2) / 255 - mean) / std).contiguous()


@torch.no_grad()
def reference_outputs(checkpoint: Checkpoint, pixels: PixelBatch) -> Outputs:
    """What the checkpoint gives for each image when it is alone, float32 [N, ...]: its features, and first its logits.

    Without a head there are no logits.
    """
    model = checkpoint.model()
    images = tqdm(pixels, desc="reference", unit="image", leave=False)
    features = torch.cat([model.features(normalised(image[None], checkpoint.preprocessing)) for image in images])
    if not checkpoint.config.classes:
        return {FEATURES: features.numpy()}
    logits = torch.cat([model.head(one[None]) for one in features])
    return {LOGITS: logits.numpy(), FEATURES: features.numpy()}
