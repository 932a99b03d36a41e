"""Benchmarks: how fast, on which machine, at which commit."""

import service  # noqa: F401 - which keeps onnxruntime and openvino from reporting
