"""Benchmarks: how fast, on which machine, at which commit."""

import os

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
