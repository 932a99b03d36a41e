"""The names of the tensors that every model here takes and gives."""

IMAGES = "images"  # UINT8 [N, H, W, 3] RGB, as the engine takes them
IMAGE_BYTES = "image_bytes"  # BYTES [N] or, as Triton has a string an image, [N, 1]: encoded images
INPUTS = (IMAGES, IMAGE_BYTES)  # alternatives: a request has one of them

LOGITS = "logits"  # FP32 [N, classes]
PROBABILITIES = "probabilities"  # FP32 [N, classes], their softmax
OUTPUTS = (LOGITS, PROBABILITIES)
