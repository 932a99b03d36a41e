"""What a compiled engine depends on, as one name."""

import hashlib
import json

from model_export.tensorrt.profile import Profile
from service.engines.gpu.device import Gpu


def cache_key(model: bytes, tensorrt_version: str, gpu: Gpu, profile: Profile) -> str:
    """Hex digest that changes with the model's bytes, TensorRT's version, the GPU, its driver and the profile."""
    parts = [
        hashlib.sha256(model).hexdigest(),
        tensorrt_version,
        [gpu.name, gpu.compute_capability, gpu.driver_api],
        list(profile),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
