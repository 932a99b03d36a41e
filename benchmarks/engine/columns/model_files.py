"""The ONNX files of one subject, each written when a column first asks for it."""

from functools import cached_property
from pathlib import Path

from benchmarks.engine.columns.plain_export import plain_export
from benchmarks.engine.columns.quantisers import quantise_dynamic, quantise_static
from benchmarks.engine.subject import Subject
from model_export.bundles.onnx_export import export_onnx, quantiser_of
from model_export.bundles.parity import GATES
from model_export.bundles.quantise import QuantisedLayers
from model_export.bundles.reference import normalised
from service.bundles.manifest import Precision


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
        return self._ours("fp32")

    @cached_property
    def ours_bf16(self) -> Path:
        """The same in bfloat16."""
        return self._ours("bf16")

    @cached_property
    def ours_int8(self) -> Path:
        """The same with its products in integers, all that pass the gate."""
        return self._ours("int8", self._quantised)

    def ours_partly_int8(self, *parts: str) -> Path:
        """The same with only the layers in integers that have one of `parts` in their name."""
        chosen = {layer: spec for layer, spec in self._quantised.items() if any(part in layer for part in parts)}
        return self._ours("int8", chosen, "-".join(parts))

    @cached_property
    def _quantised(self) -> QuantisedLayers:
        return next(quantiser_of(self.subject.checkpoint, self.subject.calibration).choices(GATES["int8"]))

    def _ours(self, precision: Precision, quantised: QuantisedLayers | None = None, part: str = "") -> Path:
        path = self._folder / f"ours-{precision}{part}.onnx"
        path.write_bytes(export_onnx(self.subject.checkpoint, precision, quantised))
        return path
