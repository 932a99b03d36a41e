"""What compiling an engine fails with."""

from model_export.errors import ExportError


class TensorRTError(ExportError):
    """An ONNX file that TensorRT would not take, or an engine that could not be compiled; the message says why."""
