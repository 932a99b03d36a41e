"""Checkpoint -> model.onnx in the precision asked for, proven against the reference."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model_export.bundles.calibration import Calibration
from model_export.bundles.onnx_export import export_onnx, quantiser_of
from model_export.bundles.parity import GateError, check_parity, gate_of
from model_export.bundles.reference import reference_logits
from model_export.bundles.samples import photograph_like
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.errors import ExportError
from model_export.tensorrt.engine import CompiledEngine
from service.arrays import PixelBatch
from service.bundles.manifest import Gate, Parity, Precision, Quantisation

_BLAMED = 5  # layers named when int8 misses its gate
_GENERATED = 120  # images that judge 16 bits where none were given


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

    The gate is measured on the golden images [N, H, W, 3] for float32, on the held-out calibration images for int8,
    and for 16 bits on all of those, or on generated images beside the golden ones where there are none. Raises
    ExportError for int8 without calibration, GateError if the gate is missed.
    """
    precision, calibration = conversion.precision, conversion.calibration
    judges = _judges(conversion, golden)
    reference = reference_logits(checkpoint, judges)
    gate = Gate.model_validate(gate_of(precision, reference).model_dump() | (conversion.gate or {}))
    if precision != "int8":
        model.write_bytes(export_onnx(checkpoint, precision))
        return check_parity(model, precision, judges, reference, gate), None
    if calibration is None:
        raise ExportError("int8 needs --calibration: images like those that will be served")
    quantiser = quantiser_of(checkpoint, calibration.pixels)
    for quantised in quantiser.choices(gate):
        model.write_bytes(export_onnx(checkpoint, precision, quantised))
        floats = [layer for layer in quantiser.layers if layer not in quantised]
        try:
            parities = check_parity(model, precision, judges, reference, gate)
        except GateError as error:
            missed = error
            continue
        if floats:
            tqdm.write(
                f"left in float32: {len(floats)} of {len(quantiser.layers)} layers: {', '.join(floats)}", sys.stderr
            )
        return parities, Quantisation(
            calibration_images=len(calibration.pixels), held_out_images=len(judges), float_layers=floats
        )
    worst = [f"{layer} ({cost:.2g})" for layer, cost in quantiser.sensitivity.items()]
    raise GateError(
        f"{missed}, even with {len(floats)} of {len(quantiser.layers)} layers left in float32; "
        f"what quantising a layer alone costs, as 1 - cosine: {', '.join(worst[:_BLAMED])}"
    )


def _judges(conversion: Conversion, golden: PixelBatch) -> PixelBatch:
    """The images that the gate is measured on, [N, H, W, 3]."""
    calibration = conversion.calibration
    if conversion.precision == "fp32":
        return golden
    if calibration is None:  # a share of top-1 needs more images than the golden ones
        side = golden.shape[1]
        generated = np.stack([photograph_like(seed, side, side) for seed in range(_GENERATED)])
        return np.concatenate([golden, generated])
    if conversion.precision == "int8":
        return calibration.held_out
    return np.concatenate([calibration.pixels, calibration.held_out])
