"""Checkpoint -> bundle: trace, prove, describe, and only then let it appear in the repository."""

import hashlib
import importlib.metadata
import io
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from model_export.bundles.agreement import tolerance_of
from model_export.bundles.convert import Conversion, convert
from model_export.bundles.parity import check_parity, gate_of, pipeline
from model_export.bundles.reference import reference_logits
from model_export.checkpoints.checkpoint import Checkpoint
from model_export.errors import ExportError
from service import __version__
from service.bundles.bundle import load_bundle, sha256_of
from service.bundles.manifest import NAME_PATTERN, SCHEMA_VERSION, VERSION_PATTERN, Gate, Golden, Manifest, Precision
from service.engines.engine import LogitBatch, PixelBatch
from service.errors import ServiceError
from service.images.preprocess import Pixels

_TOOLS = ("mixer-serving", "torch", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
# Other hosts round otherwise and other Pillow releases resample otherwise; a wrong pipeline is off by far more.
_GOLDEN_SLACK = 10
_PRECISION_SLACK = 2  # of what lower precisions were off by


class PublishError(ExportError):
    """A bundle that cannot be put where it was asked for; the message says why."""


def publish(
    checkpoint: Checkpoint,
    *,
    repository: Path,
    name: str,
    version: str | None,
    labels: tuple[str, ...] | None,
    golden: dict[str, bytes],
    conversion: Conversion = Conversion(),  # noqa: B008 - frozen
    replace: bool = False,
) -> Path:
    """Write <repository>/<name>/<version>/ and return it. `golden` are encoded images by file name.

    Without `version` the next free one is taken. Raises PublishError if the version exists (unless `replace`), the
    labels do not fit, or the checkpoint has no head or comes from no file; GateError if parity fails, ExportError if
    the conversion is impossible. The repository is then as it was.
    """
    if not checkpoint.source:
        raise PublishError("the checkpoint was read from no file, so the bundle could not say what it was made of")
    if not checkpoint.config.classes:
        raise PublishError(f"{checkpoint.source.reference} has no head, so there are no classes to serve")
    if not re.fullmatch(NAME_PATTERN, name):
        raise PublishError(f"{name!r} is no model name: letters, digits, '.', '_' and '-' only")
    labels = labels or checkpoint.labels
    if labels and len(labels) != checkpoint.config.classes:
        raise PublishError(f"{len(labels)} labels for {checkpoint.config.classes} classes")
    version = version or _next_version(repository / name)
    if not re.fullmatch(VERSION_PATTERN, version):
        raise PublishError(f"{version!r} is no version: a positive number without leading zeros")
    target = repository / name / version
    if target.exists() and not replace:
        raise PublishError(f"{target} exists; choose another --version, or --replace it")
    with tqdm(total=4, desc="export", unit="step") as progress, _staged(target) as bundle:
        progress.set_postfix_str("convert")
        prepare = pipeline(checkpoint.preprocessing)
        pixels = np.stack([_prepared(prepare, file, image) for file, image in golden.items()])
        parities, quantisation = convert(checkpoint, conversion, pixels, bundle / "model.onnx")
        progress.update()

        progress.set_postfix_str("golden images")
        logits = reference_logits(checkpoint, pixels)
        tolerance = _golden_tolerance(bundle / "model.onnx", conversion.precision, pixels, logits)
        progress.update()

        files = {"model.onnx": sha256_of(bundle / "model.onnx")}
        engine_files, tensorrt = conversion.compile_engine(bundle) if conversion.compile_engine else ({}, None)
        files |= engine_files

        progress.set_postfix_str("describe")
        files |= _write(bundle, {f"golden/{file}": data for file, data in golden.items()})
        files |= _write(bundle, {"golden/logits.npy": _npy(logits)})
        if labels:
            files |= _write(bundle, {"labels.txt": "".join(f"{label}\n" for label in labels).encode()})
        config = checkpoint.config
        manifest = Manifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            version=version,
            task="image-classification",
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
            labels="labels.txt" if labels else None,
            source=checkpoint.source,
            evaluation=checkpoint.evaluation,
            parity=parities[0],
            other_engines=parities[1:],
            quantisation=quantisation,
            golden=Golden(
                images=[f"golden/{file}" for file in golden],
                logits="golden/logits.npy",
                tolerance=tolerance,
            ),
            tensorrt=tensorrt,
            files=files,
            tools={tool: _version_of(tool) for tool in _TOOLS},
        )
        _write(bundle, {"manifest.json": manifest.model_dump_json(indent=2).encode() + b"\n"})
        progress.update()

        progress.set_postfix_str("verify")
        verify(bundle)
        progress.update()
    return target


def verify(path: Path) -> float:
    """Check a bundle's sha256 and, on this machine and each engine installed, that it reproduces its golden logits.

    Returns the largest absolute error; raises BundleError, EngineError or GateError.
    """
    bundle = load_bundle(path)
    manifest = bundle.manifest
    prepare = pipeline(manifest.preprocessing)
    images, logits = bundle.golden()
    # In float32 every answer has to be the reference's; lower precisions were judged on more images than these.
    gate = gate_of("fp32", logits) if manifest.precision == "fp32" else _within(manifest.golden.tolerance)
    pixels = np.stack([prepare(image) for image in images])
    parities = check_parity(bundle.model_path, manifest.precision, pixels, logits, gate)
    return max(parity.max_abs_error for parity in parities)


def _prepared(prepare: Callable[[bytes], Pixels], file: str, image: bytes) -> Pixels:
    try:
        return prepare(image)
    except ServiceError as error:
        raise PublishError(f"golden image {file}: {error}") from None


def _golden_tolerance(model: Path, precision: Precision, pixels: PixelBatch, logits: LogitBatch) -> float:
    """How far from the reference's a fit engine's golden logits may be."""
    rounding = _GOLDEN_SLACK * tolerance_of(logits)
    if precision == "fp32":
        return rounding
    parities = check_parity(model, precision, pixels, logits, _within(float(np.finfo(np.float32).max)))
    return max(rounding, _PRECISION_SLACK * max(parity.max_abs_error for parity in parities))


def _within(error: float) -> Gate:
    return Gate(max_abs_error=error, top1_agreement=0)


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place if the block succeeds and vanishes if it does not."""
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        bundle = staging / "new"
        bundle.mkdir()
        yield bundle
        if target.exists():
            target.rename(staging / "old")
        bundle.rename(target)
    except BaseException:
        if (staging / "old").exists():  # interrupted between the two renames
            (staging / "old").rename(target)
        raise
    finally:
        shutil.rmtree(staging)
        for parent in made:  # innermost first; those that now hold something stay
            if not any(parent.iterdir()):
                parent.rmdir()


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
