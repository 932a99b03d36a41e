"""Checkpoint -> verified bundle in a model repository."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

from model_export.bundles import samples
from model_export.bundles.calibration import calibration_files, read_calibration
from model_export.bundles.convert import Conversion
from model_export.bundles.parity import check_runnable
from model_export.bundles.publish import PublishError, names_of_classes, publish, target_of
from model_export.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model_export.checkpoints.labels_file import IMAGENET_1K, read_labels
from model_export.checkpoints.preprocessing import CROP_PCT, HALF, evaluated_with
from model_export.commands import tensorrt
from model_export.commands.notes import tell
from model_export.commands.summary import summary
from model_export.datasets import digits
from model_export.datasets.image_folder import image_files
from model_export.errors import ExportError
from model_export.variants import Gelu
from service.bundles.manifest import Gate, Precision
from service.settings import export_repository

_NO_LABELS = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint: file, Hub folder or hf:OWNER/REPO[@REVISION]")
    parser.add_argument("--name", required=True, help="model name in the repository")
    parser.add_argument("--version", help="model version (default: the next free one)")
    parser.add_argument(
        "--repository",
        type=Path,
        default=export_repository(),
        help="folder of bundles; MIXER_MODEL_REPOSITORY; default: %(default)s",
    )
    parser.add_argument(
        "--labels",
        metavar="NAMES",
        help=f'file, line i = name of class i, or JSON; "{IMAGENET_1K}"; or "{_NO_LABELS}" (default: what the '
        "checkpoint says; for 1000 classes of which it says nothing, ImageNet-1k's)",
    )
    parser.add_argument(
        "--golden", help='folder of images for the gate and for readiness, or "digits" (default: generated images)'
    )
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32", help="default: %(default)s")
    parser.add_argument(
        "--calibration", metavar="DIR", help='images like those that will be served, or "digits"; int8 needs them'
    )
    parser.add_argument(
        "--gate",
        nargs="+",
        type=_figure,
        metavar="FIGURE=VALUE",
        help="what parity must reach instead of the precision's own: cosine, top1_agreement, max_abs_error",
    )
    parser.add_argument("--replace", action="store_true", help="replace the version if it exists")
    tensorrt.add_arguments(parser)
    told = parser.add_argument_group("what weights cannot tell (default: their layout's, see `inspect`)")
    told.add_argument("--gelu", choices=get_args(Gelu))
    told.add_argument("--layer-norm-eps", type=float, metavar="EPS")
    told.add_argument("--interpolation", choices=["bilinear", "bicubic", "lanczos"])
    told.add_argument("--crop-pct", type=float, metavar="FRACTION", help="crop / resized short side")
    told.add_argument("--mean", type=float, nargs=3, metavar=("R", "G", "B"), help="of values in 0..1")
    told.add_argument("--std", type=float, nargs=3, metavar=("R", "G", "B"))


def run(options: argparse.Namespace) -> None:
    """Publish the bundle; its path on standard output, and the summary beside it."""
    compile_engine = tensorrt.compiler(options)
    _check(options)
    target = target_of(options.repository, options.name, options.version, options.replace)
    names = read_labels(options.labels) if options.labels not in (None, _NO_LABELS) else None
    golden = _golden_images(options.golden)
    checkpoint = _as_told(read_checkpoint(options.source), options)
    checkpoint = checkpoint.with_names(None) if options.labels == _NO_LABELS else checkpoint.named(names)
    names_of_classes(checkpoint)  # before the work: they may be too many or too few
    tell(checkpoint.notes)
    calibration = read_calibration(options.calibration, checkpoint.preprocessing) if options.calibration else None
    conversion = Conversion(options.precision, calibration, dict(options.gate or ()), compile_engine)
    published = publish(checkpoint, target, golden, conversion)
    print(summary(published), file=sys.stderr)
    print(published.path)


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot be before any work is done."""
    if options.precision == "int8" and not options.calibration:
        raise ExportError("int8 needs --calibration: images like those that will be served")
    check_runnable(options.precision)
    if options.calibration:
        calibration_files(options.calibration)
    if options.layer_norm_eps is not None and not 0 < options.layer_norm_eps < 1:
        raise CheckpointError(f"--layer-norm-eps is {options.layer_norm_eps:g}, it must be above 0 and below 1")
    evaluated_with(
        224,
        options.interpolation or "bilinear",
        CROP_PCT if options.crop_pct is None else options.crop_pct,
        options.mean or HALF,
        options.std or HALF,
    )


def _as_told(checkpoint: Checkpoint, options: argparse.Namespace) -> Checkpoint:
    config, spec = checkpoint.config, checkpoint.preprocessing
    told = evaluated_with(
        config.image_size,
        options.interpolation or spec.interpolation,
        CROP_PCT if options.crop_pct is None else options.crop_pct,
        options.mean or spec.mean,
        options.std or spec.std,
    )
    if options.crop_pct is None:
        told = told.model_copy(update={"resize_short": spec.resize_short})
    numerics = {"gelu": options.gelu, "layer_norm_eps": options.layer_norm_eps}
    config = replace(config, **{name: value for name, value in numerics.items() if value is not None})
    return replace(checkpoint, config=config, preprocessing=told)


def _figure(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    if name not in Gate.model_fields:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(Gate.model_fields)}")
    try:
        Gate.model_validate({"top1_agreement": 1.0, name: value})
    except ValueError:
        raise argparse.ArgumentTypeError(f"{value!r} is no value for {name}") from None
    return name, float(value)


def _golden_images(choice: str | None) -> dict[str, bytes]:
    if choice is None:
        return samples.sample_pngs()
    if choice == "digits":
        return digits.sample_pngs()
    if not Path(choice).is_dir():
        raise PublishError(f"{choice}: no such folder of images")
    folder = Path(choice)
    images = {path.relative_to(folder).as_posix(): path.read_bytes() for path in image_files(folder)}
    if not images:
        raise PublishError(f"{choice}: holds no images")
    return images
