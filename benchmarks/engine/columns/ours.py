"""Our exports on the service's engines."""

from benchmarks.engine.columns.column import Column, on_pixels
from service.engines.onnx_engine import OnnxEngine
from service.engines.openvino_engine import OpenVinoEngine

_CPU = ["CPUExecutionProvider"]

OURS = [
    Column("ours fp32, onnxruntime", "fp32", lambda m, n: on_pixels(OnnxEngine(m.ours_fp32, n, _CPU)), ours=True),
    Column("ours fp32, OpenVINO", "fp32", lambda m, n: on_pixels(OpenVinoEngine(m.ours_fp32, n, "fp32")), ours=True),
    Column("ours bf16, OpenVINO", "bf16", lambda m, n: on_pixels(OpenVinoEngine(m.ours_bf16, n, "bf16")), ours=True),
    Column("ours bf16, split", "bf16", lambda m, n: on_pixels(OpenVinoEngine(m.ours_bf16, n, "bf16", n)), ours=True),
    Column("ours int8, onnxruntime", "int8", lambda m, n: on_pixels(OnnxEngine(m.ours_int8, n, _CPU)), ours=True),
    Column("ours int8, OpenVINO", "int8", lambda m, n: on_pixels(OpenVinoEngine(m.ours_int8, n, "int8")), ours=True),
    Column("ours int8, split", "int8", lambda m, n: on_pixels(OpenVinoEngine(m.ours_int8, n, "int8", n)), ours=True),
]
