"""The arrays that pass between the rooms: pixels on the way in, a model's outputs on the way out."""

from typing import Final

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [H, W, 3] RGB, one image
PixelBatch = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB
Logits = npt.NDArray[np.float32]  # [classes], one image
LogitBatch = npt.NDArray[np.float32]  # [N, classes]
Features = npt.NDArray[np.float32]  # [C], one image: the pooled representation before the head
FeatureBatch = npt.NDArray[np.float32]  # [N, C]

LOGITS: Final = "logits"
FEATURES: Final = "features"
Outputs = dict[str, LogitBatch | FeatureBatch]  # those that a model has, by these names
