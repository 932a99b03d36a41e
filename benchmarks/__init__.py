"""Benchmarks: how fast, on which machine, at which commit."""

import os
import sys

# onnxruntime's Linux wheels send telemetry unless this is set before they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# `import openvino` alone reports itself to Google Analytics through this package; without it, it uses a stub.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # what makes an import fail
