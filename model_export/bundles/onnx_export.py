"""Checkpoint -> ONNX in the precision asked for, the same bytes every time."""

import onnx

from model_export.bundles.onnx_graph import MixerGraph, mixer_graph
from model_export.bundles.quantise import QuantisedLayers, Quantiser
from model_export.checkpoints.checkpoint import Checkpoint
from service.arrays import PixelBatch
from service.bundles.manifest import Precision


def export_onnx(
    checkpoint: Checkpoint, precision: Precision = "fp32", quantised: QuantisedLayers | None = None
) -> bytes:
    """The served network: input `images` uint8 [N, H, W, 3], N dynamic; outputs `logits` and `features` float32.

    int8 computes the layers in `quantised` in integers. Nothing of this machine is left inside.
    """
    model = graph_of(checkpoint, precision, quantised).model
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def quantiser_of(checkpoint: Checkpoint, pixels: PixelBatch) -> Quantiser:
    """Calibrate a checkpoint's layers on pixels [N, H, W, 3]."""
    return Quantiser(lambda quantised: graph_of(checkpoint, "int8", quantised), pixels)


def graph_of(checkpoint: Checkpoint, precision: Precision, quantised: QuantisedLayers | None) -> MixerGraph:
    """The graph of a checkpoint (see `onnx_graph.mixer_graph`)."""
    weights = {name: tensor.float().numpy() for name, tensor in checkpoint.state.items()}
    return mixer_graph(checkpoint.config, weights, checkpoint.preprocessing, precision, quantised)
