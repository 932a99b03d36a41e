"""Serving stage: bundle -> HTTP answers. Never imports torch or model_export."""

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.offline.classifier import Classifier as Classifier

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# `import openvino` reports itself through this package; where it cannot be imported, a stub takes its place.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what makes an import fail

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """`from service import Classifier`, which is loaded by whoever asks for it and nobody else."""
    if name == "Classifier":
        from service.offline.classifier import Classifier  # noqa: PLC0415 - see above

        return Classifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
