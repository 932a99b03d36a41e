"""Checkpoint -> ONNX: uint8 pixels in, logits out, the same bytes every time."""

import copy
import logging
import warnings

import onnx
import torch
from torch import Tensor, nn

from model_export.checkpoints.checkpoint import Checkpoint
from model_export.mlp_mixer import MlpMixer
from service.manifest import Preprocessing

OPSET = 20  # the first with a Gelu operator, which onnxruntime fuses; the decomposed form it does not


class ServedMixer(nn.Module):
    """The network as it is served: uint8 RGB [N, H, W, 3] -> logits [N, classes].

    It takes `mixer` over and gives it a stem of its own; no other weight is copied or changed.
    """

    def __init__(self, mixer: MlpMixer, preprocessing: Preprocessing) -> None:
        super().__init__()
        mixer.stem = copy.deepcopy(mixer.stem)
        fold_normalisation(mixer.stem, preprocessing)
        self.mixer = mixer

    def forward(self, images: Tensor) -> Tensor:
        """No arithmetic on pixels is left but the stem's."""
        logits: Tensor = self.mixer(images.permute(0, 3, 1, 2).float())
        return logits


@torch.no_grad()
def fold_normalisation(stem: nn.Conv2d, preprocessing: Preprocessing) -> None:
    """Change a stem, in place, from taking (x / 255 - mean) / std to taking x in 0..255.

    Exact because the patch convolution has no padding: W' = W / (255 std), b' = b - sum(W mean / std) over the
    window, computed in float64.
    """
    assert stem.bias is not None
    mean = torch.tensor(preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    std = torch.tensor(preprocessing.std, dtype=torch.float64).view(1, 3, 1, 1)
    weight, bias = stem.weight.double(), stem.bias.double()
    stem.bias.copy_(bias - (weight * mean / std).sum(dim=(1, 2, 3)))
    stem.weight.copy_(weight / (255 * std))


def export_onnx(checkpoint: Checkpoint) -> bytes:
    """Trace the served network to ONNX: input `images` uint8 [N, H, W, 3], N dynamic; output `logits` float32.

    No source path, time stamp or other trace of this machine is left inside.
    """
    served = ServedMixer(checkpoint.model(), checkpoint.preprocessing).eval()
    size = checkpoint.config.image_size
    # Two images: with one, the tracer would take the batch for a constant.
    example = torch.zeros(2, size, size, 3, dtype=torch.uint8)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own use of what it deprecates
        program = torch.onnx.export(
            served,
            (example,),
            input_names=["images"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamic_shapes={"images": {0: torch.export.Dim("N")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def _strip(model: onnx.ModelProto) -> None:
    """Remove what tracing leaves behind: stack traces with absolute paths, and names that mean nothing here."""
    model.producer_name, model.producer_version, model.doc_string = "mixer-serving", "", ""
    model.graph.name = "mlp_mixer"
    del model.metadata_props[:]
    del model.graph.value_info[:]
    for part in (model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
