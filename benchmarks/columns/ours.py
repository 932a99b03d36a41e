"""Our exports on the service's engines."""

from benchmarks.columns.column import Column, on_pixels
from service.onnx_engine import OnnxEngine

_CPU = ["CPUExecutionProvider"]

OURS = [
    Column("ours fp32, onnxruntime", "fp32", lambda m, n: on_pixels(OnnxEngine(m.ours_fp32, n, _CPU)), ours=True),
]
