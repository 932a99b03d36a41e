"""The ONNX files of one subject, each written when a column first asks for it."""

from functools import cached_property
from pathlib import Path

from benchmarks.columns.plain_export import plain_export
from benchmarks.columns.quantisers import quantise_dynamic, quantise_static
from benchmarks.subject import Subject
from model_export.bundles.onnx_export import export_onnx
from model_export.bundles.reference import normalised


class ModelFiles:
    """Files in `folder`, which the caller removes."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self.subject = subject
        self._folder = folder

    @cached_property
    def plain(self) -> Path:
        """torch.onnx.export of the network as it is: normalised float images in."""
        path = self._folder / "plain.onnx"
        plain_export(self.subject.checkpoint, path)
        return path

    @cached_property
    def dynamic_int8(self) -> Path:
        """`plain` with onnxruntime's dynamic quantisation."""
        path = self._folder / "dynamic-int8.onnx"
        quantise_dynamic(self.plain, path)
        return path

    @cached_property
    def static_int8(self) -> Path:
        """`plain` with onnxruntime's static quantisation."""
        path = self._folder / "static-int8.onnx"
        images = normalised(self.subject.calibration, self.subject.checkpoint.preprocessing).numpy()
        quantise_static(self.plain, path, images)
        return path

    @cached_property
    def ours_fp32(self) -> Path:
        """Our export: pixels in."""
        path = self._folder / "ours-fp32.onnx"
        path.write_bytes(export_onnx(self.subject.checkpoint))
        return path
