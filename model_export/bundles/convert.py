"""Checkpoint -> model.onnx in the precision asked for, proven against the reference."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model_export.bundles.calibration import Calibration
from model_export.bundles.onnx_export import export_onnx, quantiser_of
from model_export.bundles.parity import GateError, check_parity, gate_of
from model_export.bundles.reference import reference_logits
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.errors import ExportError
from model_export.tensorrt.engine import CompiledEngine
from service.engine import PixelBatch
from service.manifest import Gate, Parity, Precision, Quantisation

_BLAMED = 5  # layers named when int8 misses its gate


@dataclass(frozen=True)
class Conversion:
    """How to convert."""

    precision: Precision = "fp32"
    calibration: Calibration | None = None  # images that calibrate and judge it
    gate: dict[str, float] | None = None  # figures that replace the gate's own
    compile_engine: Callable[[Path], CompiledEngine] | None = None  # adds one to the staged bundle after the gate


def convert(
    checkpoint: Checkpoint, conversion: Conversion, golden: PixelBatch, model: Path
) -> tuple[list[Parity], Quantisation | None]:
    """Write `model`; returns each installed engine's parity, the default's first, and how int8 was calibrated.

    The gate is measured on the held-out calibration images, or on the golden ones [N, H, W, 3] where there are none.
    Raises ExportError for int8 without calibration, GateError if the gate is missed.
    """
    precision, calibration = conversion.precision, conversion.calibration
    judges = calibration.held_out if calibration else golden
    reference = reference_logits(checkpoint, judges)
    gate = Gate.model_validate(gate_of(precision, reference).model_dump() | (conversion.gate or {}))
    if precision != "int8":
        model.write_bytes(export_onnx(checkpoint, precision))
        return check_parity(model, precision, judges, reference, gate), None
    if calibration is None:
        raise ExportError("int8 needs --calibration: images like those that will be served")
    quantiser = quantiser_of(checkpoint, calibration.pixels)
    quantised = quantiser.choose(gate)
    model.write_bytes(export_onnx(checkpoint, precision, quantised))
    try:
        parities = check_parity(model, precision, judges, reference, gate)
    except GateError as error:
        worst = [f"{layer} ({cost:.2g})" for layer, cost in quantiser.sensitivity.items() if layer in quantised]
        raise GateError(f"{error}; what quantising costs, as 1 - cosine: {', '.join(worst[:_BLAMED])}") from None
    return parities, Quantisation(
        calibration_images=len(calibration.pixels),
        held_out_images=len(judges),
        float_layers=[layer for layer in quantiser.layers if layer not in quantised],
    )
