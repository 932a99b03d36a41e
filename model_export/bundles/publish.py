"""Checkpoint -> bundle: convert, prove, describe, and only then let it appear in the repository."""

import hashlib
import importlib.metadata
import io
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model_export.bundles.agreement import tolerance_of
from model_export.bundles.convert import Conversion, Images, convert
from model_export.bundles.parity import EngineCheck, check_parity, gates_of, pipeline
from model_export.bundles.reference import reference_outputs
from model_export.bundles.staging import staged
from model_export.bundles.steps import Steps
from model_export.bundles.synsets import SYNSETS
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.errors import ExportError
from service import __version__
from service.arrays import FEATURES, LOGITS, Outputs, PixelBatch, Pixels
from service.bundles.bundle import load_bundle, sha256_of
from service.bundles.manifest import (
    NAME_PATTERN,
    SCHEMA_VERSION,
    VERSION_PATTERN,
    Features,
    Gate,
    Golden,
    Manifest,
    Precision,
)
from service.errors import ServiceError

_LABELS = "labels.txt"
_TOOLS = ("mixer-serving", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
# Other hosts round otherwise and other Pillow releases resample otherwise; a wrong pipeline is off by far more.
_GOLDEN_SLACK = 10
_PRECISION_SLACK = 2  # of what lower precisions were off by


class PublishError(ExportError):
    """A bundle that cannot be put where it was asked for; the message says why."""


@dataclass(frozen=True)
class Published:
    """A new bundle, how each engine answered, and the seconds that each step took."""

    path: Path
    manifest: Manifest
    checks: list[EngineCheck]
    judges: list[str]  # names of the images that the checks were measured on
    seconds: dict[str, float]


def target_of(repository: Path, name: str, version: str | None, replace: bool) -> Path:
    """Where a bundle goes: <repository>/<name>/<version>/, by default the next free version.

    Raises PublishError for names that cannot be, where nothing can be written, and if it exists, unless to `replace`.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise PublishError(f"{name!r} is no model name: letters, digits, '.', '_' and '-' only")
    version = version or _next_version(repository / name)
    if not re.fullmatch(VERSION_PATTERN, version):
        raise PublishError(f"{version!r} is no version: a positive number without leading zeros")
    target = repository / name / version
    if target.exists() and not replace:
        raise PublishError(f"{target} exists; choose another --version, or --replace it")
    there = next(path for path in target.parents if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise PublishError(f"nothing can be written to {there}; choose another --repository")
    return target


def publish(
    checkpoint: Checkpoint,
    target: Path,
    golden: dict[str, bytes],
    conversion: Conversion = Conversion(),  # noqa: B008 - frozen
) -> Published:
    """Write the bundle `target`, as `target_of` gives it. `golden` are encoded images by file name.

    A checkpoint without a head becomes a bundle that gives features alone. Raises PublishError if the labels do not
    fit, or the checkpoint comes from no file; GateError if parity fails, ExportError if the conversion is impossible.
    The repository is then as it was.
    """
    if not checkpoint.source:
        raise PublishError("the checkpoint was read from no file, so the bundle could not say what it was made of")
    names = names_of_classes(checkpoint)
    steps = Steps(_steps_of(conversion))
    with staged(target) as bundle:
        with steps.step("reference"):
            prepare = pipeline(checkpoint.preprocessing)
            pixels = np.stack([_prepared(prepare, file, image) for file, image in golden.items()])
            outputs = reference_outputs(checkpoint, pixels)
        converted = convert(checkpoint, conversion, Images(list(golden), pixels), outputs, bundle / "model.onnx", steps)
        tolerances = {name: _GOLDEN_SLACK * tolerance_of(output) for name, output in outputs.items()}
        if conversion.precision != "fp32":
            with steps.step("golden images"):
                errors = _errors(bundle / "model.onnx", conversion.precision, pixels, outputs)
                tolerances = {name: max(tolerances[name], _PRECISION_SLACK * errors[name]) for name in outputs}
        engine_files: dict[str, str] = {}
        tensorrt = None
        if conversion.compile_engine:
            with steps.step("compile"):
                engine_files, tensorrt = conversion.compile_engine(bundle)
        with steps.step("write"):
            files = {"model.onnx": sha256_of(bundle / "model.onnx")} | engine_files
            files |= _write(bundle, {f"golden/{file}": data for file, data in golden.items()})
            files |= _write(bundle, {_golden_file(name): _npy(output) for name, output in outputs.items()} | names)
            config = checkpoint.config
            parities = {name: [check.parity[name] for check in converted.checks] for name in outputs}
            of_logits = parities.get(LOGITS, [])
            manifest = Manifest(
                schema_version=SCHEMA_VERSION,
                name=target.parent.name,
                version=target.name,
                task="image-classification" if config.classes else "image-feature-extraction",
                variant=config.variant,
                patch=config.patch,
                image_size=config.image_size,
                classes=config.classes,
                parameters=config.parameters,
                gmacs=config.macs / 1e9,
                gelu=config.gelu,
                layer_norm_eps=config.layer_norm_eps,
                precision=conversion.precision,
                preprocessing=checkpoint.preprocessing,
                labels=_LABELS if names else None,
                source=checkpoint.source,
                evaluation=checkpoint.evaluation,
                parity=of_logits[0] if of_logits else None,
                other_engines=of_logits[1:],
                features=Features(
                    size=config.hidden,
                    golden=_golden_file(FEATURES),
                    tolerance=tolerances[FEATURES],
                    parity=parities[FEATURES],
                ),
                quantisation=converted.quantisation,
                golden=Golden(
                    images=[f"golden/{file}" for file in golden],
                    logits=_golden_file(LOGITS) if config.classes else None,
                    tolerance=tolerances.get(LOGITS),
                ),
                tensorrt=tensorrt,
                files=files,
                tools={tool: _version_of(tool) for tool in _TOOLS},
            )
            _write(bundle, {"manifest.json": manifest.model_dump_json(indent=2).encode() + b"\n"})
            load_bundle(bundle).golden()  # every byte as it is read back; its answers were proven on this very file
    steps.close()
    return Published(target, manifest, converted.checks, converted.judges, steps.seconds)


def verify(path: Path) -> float:
    """Check a bundle's sha256 and, on this machine and each engine installed, that it reproduces its golden answers.

    Returns the largest absolute error of any output; raises BundleError, EngineError or GateError.
    """
    bundle = load_bundle(path)
    manifest = bundle.manifest
    prepare = pipeline(manifest.preprocessing)
    images, outputs = bundle.golden()
    # In float32 every answer has to be the reference's; lower precisions were judged on more images than these.
    within = {name: Gate(max_abs_error=tolerance) for name, tolerance in bundle.tolerances.items()}
    gates = gates_of("fp32", outputs) if manifest.precision == "fp32" else within
    pixels = np.stack([prepare(image) for image in images])
    checks = check_parity(bundle.model_path, manifest.precision, pixels, outputs, gates)
    return max(parity.max_abs_error for check in checks for parity in check.parity.values())


def _steps_of(conversion: Conversion) -> list[str]:
    int8, lower = conversion.precision == "int8", conversion.precision != "fp32"
    steps = {"calibrate": int8, "graph": True, "parity": True, "golden images": lower}
    steps |= {"compile": conversion.compile_engine is not None, "write": True}
    return ["reference", *(step for step, taken in steps.items() if taken)]


def names_of_classes(checkpoint: Checkpoint) -> dict[str, bytes]:
    """labels.txt and synsets.txt by name; raises PublishError for names that would not be read back as they are."""
    files = {}
    for file, names in ((_LABELS, checkpoint.labels), (SYNSETS, checkpoint.synsets)):
        if not names:
            continue
        if len(names) != checkpoint.config.classes:
            raise PublishError(f"{len(names)} labels for {checkpoint.config.classes} classes")
        if unfit := [index for index, name in enumerate(names) if name.splitlines() != [name]]:
            raise PublishError(f"the name of class {unfit[0]} is empty or has a line break: {names[unfit[0]]!r}")
        files[file] = "".join(f"{name}\n" for name in names).encode()
    return files


def _prepared(prepare: Callable[[bytes], Pixels], file: str, image: bytes) -> Pixels:
    try:
        return prepare(image)
    except ServiceError as error:
        raise PublishError(f"golden image {file}: {error}") from None


def _errors(model: Path, precision: Precision, pixels: PixelBatch, outputs: Outputs) -> dict[str, float]:
    """The largest absolute error of any engine in each output, in one batch."""
    finite = Gate(max_abs_error=float(np.finfo(np.float32).max))
    checks = check_parity(model, precision, pixels, outputs, dict.fromkeys(outputs, finite), (len(pixels),))
    return {name: max(check.parity[name].max_abs_error for check in checks) for name in outputs}


def _golden_file(output: str) -> str:
    return f"golden/{output}.npy"


def _write(bundle: Path, files: dict[str, bytes]) -> dict[str, str]:
    """Write files by path; returns their sha256, so that nobody has to keep the data."""
    for name, data in files.items():
        path = bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def _npy(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _next_version(model: Path) -> str:
    versions = [int(path.name) for path in model.glob("*") if path.name.isdecimal()]
    return str(max(versions, default=0) + 1)


def _version_of(tool: str) -> str:
    return __version__ if tool == "mixer-serving" else importlib.metadata.version(tool).partition("+")[0]
