"""The names of the tensors that models here take and give."""

from typing import Final

from service.arrays import FEATURES, LOGITS
from service.bundles.manifest import Manifest

IMAGES = "images"  # UINT8 [N, H, W, 3] RGB, as the engine takes them
IMAGE_BYTES = "image_bytes"  # BYTES [N] or, as Triton has a string an image, [N, 1]: encoded images
INPUTS = (IMAGES, IMAGE_BYTES)  # alternatives: a request has one of them

PROBABILITIES: Final = "probabilities"  # FP32 [N, classes], the softmax of the logits


def widths(manifest: Manifest) -> dict[str, int]:
    """The outputs that a model has, each FP32 [N, width]."""
    outputs = dict(manifest.outputs)
    features = outputs.pop(FEATURES, None)
    if outputs:
        outputs[PROBABILITIES] = outputs[LOGITS]
    return outputs | ({FEATURES: features} if features else {})
