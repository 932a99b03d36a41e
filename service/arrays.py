"""The arrays that pass between the rooms: pixels on the way in, logits on the way out."""

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]  # [H, W, 3] RGB, one image
PixelBatch = npt.NDArray[np.uint8]  # [N, H, W, 3] RGB
Logits = npt.NDArray[np.float32]  # [classes], one image
LogitBatch = npt.NDArray[np.float32]  # [N, classes]
