"""Serving stage: bundle -> HTTP answers. Never imports torch or model_export."""

import os
import sys

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# `import openvino` reports itself through this package; where it cannot be imported, a stub takes its place.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what makes an import fail

__version__ = "0.1.0"
