"""`python -m model_export` (console script `mixer-export`): finetune, export, verify."""

import argparse
import sys
from pathlib import Path

import torch

from model_export import digits, samples
from model_export.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from model_export.finetune import Recipe, finetune_digits
from model_export.mlp_mixer import MlpMixer
from model_export.parity import GateError
from model_export.publish import PublishError, publish, verify
from model_export.variants import VARIANTS, config_of
from service.bundle import BundleError
from service.errors import ServiceError
from service.golden import GoldenMismatch
from service.onnx_engine import EngineError

_FAILURES = (CheckpointError, GateError, PublishError, BundleError, EngineError, GoldenMismatch, ServiceError, OSError)


def main(arguments: list[str] | None = None) -> None:
    """Run one command; exits with 1 and one sentence if it fails."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except _FAILURES as error:
        sys.exit(f"mixer-export: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mixer-export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    export = commands.add_parser("export", help="checkpoint -> verified bundle in a model repository")
    export.set_defaults(command=_export)
    export.add_argument("source", type=Path, help="checkpoint: .safetensors or .pth, our own layout or timm's")
    export.add_argument("--name", required=True, help="model name in the repository")
    export.add_argument("--version", help="model version (default: the next free one)")
    export.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    export.add_argument("--labels", type=Path, help="text file, line i = name of class i")
    export.add_argument(
        "--golden",
        default=None,
        help='folder of images for the gate and for readiness, or "digits" (default: generated images)',
    )
    export.add_argument("--replace", action="store_true", help="replace the version if it exists")

    finetune = commands.add_parser("finetune", help="train a Mixer -> checkpoint")
    finetune.set_defaults(command=_finetune)
    finetune.add_argument(
        "--from", dest="start", default="XS/4", help=f"checkpoint, or variant ({', '.join(VARIANTS)}); default: XS/4"
    )
    finetune.add_argument("--data", choices=["digits"], default="digits", help="scikit-learn's handwritten digits")
    finetune.add_argument("--out", type=Path, required=True, help="checkpoint to write, .safetensors")
    finetune.add_argument("--epochs", type=int, default=Recipe.epochs, help="default: %(default)s")
    finetune.add_argument("--seed", type=int, default=Recipe.seed, help="default: %(default)s")

    check = commands.add_parser("verify", help="check a bundle's sha256 and golden images")
    check.set_defaults(command=_verify)
    check.add_argument("bundle", type=Path, help="<repository>/<name>/<version>")
    return parser


def _export(options: argparse.Namespace) -> None:
    bundle = publish(
        read_checkpoint(options.source),
        options.source,
        repository=options.repository,
        name=options.name,
        version=options.version,
        labels=tuple(options.labels.read_text(encoding="utf-8").splitlines()) if options.labels else None,
        golden=_golden_images(options.golden),
        replace=options.replace,
    )
    print(bundle)


def _golden_images(choice: str | None) -> dict[str, bytes]:
    if choice is None:
        return samples.sample_pngs()
    if choice == "digits":
        return digits.sample_pngs()
    images = {path.name: path.read_bytes() for path in sorted(Path(choice).iterdir()) if path.is_file()}
    if not images:
        raise PublishError(f"{choice}: holds no images")
    return images


def _finetune(options: argparse.Namespace) -> None:
    recipe = Recipe(epochs=options.epochs, seed=options.seed)
    checkpoint = finetune_digits(_starting_model(options.start, recipe), recipe)
    write_checkpoint(options.out, checkpoint)
    assert checkpoint.evaluation is not None
    print(f"{options.out}: held-out top-1 {checkpoint.evaluation.top1:.2%} of {checkpoint.evaluation.images} images")


def _starting_model(start: str, recipe: Recipe) -> MlpMixer:
    torch.manual_seed(recipe.seed)
    if start in VARIANTS:
        config = config_of(start, classes=len(digits.LABELS))
        state = None
    else:
        checkpoint: Checkpoint = read_checkpoint(Path(start))
        config, state = checkpoint.config, checkpoint.state
    if (config.image_size, config.classes) != (digits.IMAGE_SIZE, len(digits.LABELS)):
        raise CheckpointError(
            f"{start}: takes {config.image_size} pixels and has {config.classes} classes; "
            f"the digits need {digits.IMAGE_SIZE} and {len(digits.LABELS)}"
        )
    model = MlpMixer(config, recipe.dropout, recipe.stochastic_depth)
    if state is not None:
        model.load_state_dict(state)
    return model


def _verify(options: argparse.Namespace) -> None:
    error = verify(options.bundle)
    print(f"{options.bundle}: verified, golden logits reproduced to {error:.2g}")


if __name__ == "__main__":
    main()
