"""What a user could pick instead of ours."""

import torch

from benchmarks.engine.columns.column import Column
from benchmarks.engine.columns.float_engines import onnxruntime, openvino, torch_eager

COMPETITORS = [
    Column("torch fp32", "fp32", lambda m, n: torch_eager(m.subject, torch.float32, n)),
    Column("torch bf16", "bf16", lambda m, n: torch_eager(m.subject, torch.bfloat16, n)),
    Column("onnxruntime fp32, plain export", "fp32", lambda m, n: onnxruntime(m.subject, m.plain, n)),
    Column("onnxruntime dynamic int8", "int8", lambda m, n: onnxruntime(m.subject, m.dynamic_int8, n)),
    Column("onnxruntime static QDQ int8", "int8", lambda m, n: onnxruntime(m.subject, m.static_int8, n)),
    Column("OpenVINO fp32", "fp32", lambda m, n: openvino(m.subject, m.plain, n, "f32")),
    Column("OpenVINO bf16", "bf16", lambda m, n: openvino(m.subject, m.plain, n, "bf16")),
    Column("OpenVINO int8", "int8", lambda m, n: openvino(m.subject, m.static_int8, n, "f32")),
]
