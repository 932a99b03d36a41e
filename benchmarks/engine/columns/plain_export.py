"""What a user gets from torch.onnx.export without further thought."""

import logging
import warnings
from pathlib import Path

import torch

from model_export.bundles.onnx_graph import OPSET
from model_export.checkpoints.checkpoint import Checkpoint


def plain_export(checkpoint: Checkpoint, path: Path) -> None:
    """Write the network with input `images` float32 [N, 3, H, W], normalised, and output `logits`; N dynamic."""
    size = checkpoint.config.image_size
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what it deprecates
        torch.onnx.export(
            checkpoint.model(),
            (torch.zeros(2, 3, size, size),),
            path,
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
