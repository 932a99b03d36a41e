"""Serving stage: bundle -> HTTP answers. Never imports torch or model_export."""

import os

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
