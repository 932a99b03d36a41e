"""Checkpoint -> verified bundle in a model repository."""

import argparse
from pathlib import Path

from model_export import digits, samples
from model_export.checkpoint import read_checkpoint
from model_export.publish import PublishError, publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", type=Path, help="checkpoint: .safetensors or .pth, our own layout or timm's")
    parser.add_argument("--name", required=True, help="model name in the repository")
    parser.add_argument("--version", help="model version (default: the next free one)")
    parser.add_argument("--repository", type=Path, default=Path("models"), help="default: %(default)s")
    parser.add_argument("--labels", type=Path, help="text file, line i = name of class i")
    parser.add_argument(
        "--golden", help='folder of images for the gate and for readiness, or "digits" (default: generated images)'
    )
    parser.add_argument("--replace", action="store_true", help="replace the version if it exists")


def run(options: argparse.Namespace) -> None:
    """Publish the bundle and print its path."""
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
