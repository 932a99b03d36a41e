"""Checkpoint -> model.onnx in the precision asked for, proven against the reference."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model_export.bundles.calibration import Calibration
from model_export.bundles.onnx_export import export_onnx, quantiser_of
from model_export.bundles.parity import EngineCheck, GateError, check_parity, gates_of
from model_export.bundles.reference import reference_outputs
from model_export.bundles.samples import photograph_like
from model_export.bundles.steps import Steps
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.errors import ExportError
from model_export.tensorrt.engine import CompiledEngine
from service.arrays import Outputs, PixelBatch
from service.bundles.manifest import Precision, Quantisation

_BLAMED = 5  # layers named when int8 misses its gate
_GENERATED = 120  # images that judge 16 bits where none were given


@dataclass(frozen=True)
class Images:
    """Pixels uint8 [N, H, W, 3], and a name for each."""

    names: list[str]
    pixels: PixelBatch


@dataclass(frozen=True)
class Conversion:
    """How to convert."""

    precision: Precision = "fp32"
    calibration: Calibration | None = None  # images that calibrate and judge it
    gate: dict[str, float] | None = None  # figures that replace the gates' own
    compile_engine: Callable[[Path], CompiledEngine] | None = None  # adds one to the staged bundle after the gate


@dataclass(frozen=True)
class Converted:
    """What came of it: each installed engine's check, the default's first, and how int8 was calibrated."""

    checks: list[EngineCheck]
    judges: list[str]  # names of the images that the checks were measured on
    quantisation: Quantisation | None = None


def convert(
    checkpoint: Checkpoint, conversion: Conversion, golden: Images, outputs: Outputs, model: Path, steps: Steps
) -> Converted:
    """Write `model`, in the steps "reference", "calibrate" (int8), "graph" and "parity".

    `outputs` are the reference's of the golden images. The gate is measured on these for float32, on the held-out
    calibration images for int8, and for 16 bits on all of those, or on generated images beside the golden ones
    where there are none. Raises ExportError for int8 without calibration, GateError if the gate is missed.
    """
    precision, calibration = conversion.precision, conversion.calibration
    if precision == "int8" and calibration is None:
        raise ExportError("int8 needs --calibration: images like those that will be served")
    judges = _judges(conversion, golden)
    with steps.step("reference"):
        reference = outputs if judges is golden else reference_outputs(checkpoint, judges.pixels)
    gates = gates_of(precision, reference, conversion.gate)
    if precision != "int8":
        with steps.step("graph"):
            model.write_bytes(export_onnx(checkpoint, precision))
        with steps.step("parity"):
            return Converted(check_parity(model, precision, judges.pixels, reference, gates), judges.names)
    assert calibration is not None
    with steps.step("calibrate"):
        quantiser = quantiser_of(checkpoint, calibration.pixels)
    for quantised in steps.each("calibrate", quantiser.choices(next(iter(gates.values())))):
        with steps.step("graph"):
            model.write_bytes(export_onnx(checkpoint, precision, quantised))
        floats = [layer for layer in quantiser.layers if layer not in quantised]
        try:
            with steps.step("parity"):
                checks = check_parity(model, precision, judges.pixels, reference, gates)
        except GateError as error:
            missed = error
            continue
        if floats:
            tqdm.write(
                f"left in float32: {len(floats)} of {len(quantiser.layers)} layers: {', '.join(floats)}", sys.stderr
            )
        made = Quantisation(
            calibration_images=len(calibration.pixels), held_out_images=len(judges.pixels), float_layers=floats
        )
        return Converted(checks, judges.names, made)
    worst = [f"{layer} ({cost:.2g})" for layer, cost in quantiser.sensitivity.items()]
    raise GateError(
        f"{missed}, even with {len(floats)} of {len(quantiser.layers)} layers left in float32; "
        f"what quantising a layer alone costs, as 1 - cosine: {', '.join(worst[:_BLAMED])}"
    )


def _judges(conversion: Conversion, golden: Images) -> Images:
    """The images that the gate is measured on."""
    calibration = conversion.calibration
    if conversion.precision == "fp32":
        return golden
    if calibration is None:  # a share of top-1 needs more images than the golden ones
        side = golden.pixels.shape[1]
        generated = np.stack([photograph_like(seed, side, side) for seed in range(_GENERATED)])
        names = [f"generated image {seed}" for seed in range(_GENERATED)]
        return Images(golden.names + names, np.concatenate([golden.pixels, generated]))
    if conversion.precision == "int8":
        return Images(list(calibration.held_out_names), calibration.held_out)
    names = [f"calibration image {index}" for index in range(len(calibration.pixels))]
    return Images(names + list(calibration.held_out_names), np.concatenate([calibration.pixels, calibration.held_out]))
