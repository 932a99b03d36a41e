"""Say what a checkpoint is: layout, variant, size, numerics, preprocessing, layers."""

import argparse
import json

from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from model_export.checkpoints.description import describe, layers_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("source", help="checkpoint: file, Hub folder or hf:OWNER/REPO[@REVISION]")
    parser.add_argument("--json", action="store_true", help="the same as JSON")


def run(options: argparse.Namespace) -> None:
    """Print the description."""
    checkpoint = read_checkpoint(options.source)
    print(json.dumps(describe(checkpoint), indent=2) if options.json else _text(checkpoint))


def _text(checkpoint: Checkpoint) -> str:
    config, spec = checkpoint.config, checkpoint.preprocessing
    layers = layers_of(config)
    gmacs = sum(layer.macs for layer in layers) / 1e9
    facts = {
        "layout": checkpoint.layout,
        "variant": f"{config.variant}, {config.layers} layers, hidden {config.hidden}, "
        f"token mixing {config.tokens_hidden}, channel mixing {config.channels_hidden}",
        "input": f"{config.image_size}x{config.image_size}, patches of {config.patch}, {config.tokens} tokens",
        "classes": str(config.classes)
        if config.classes
        else "none: there is no head, so its bundle gives features alone",
        "parameters": f"{config.parameters / 1e6:.2f} M",
        "GMACs": f"{gmacs:.2f} ({config.macs / 1e9:.2f} without the norms)",
        "gelu": config.gelu,
        "layer norm eps": f"{config.layer_norm_eps:g}",
        "preprocessing": f"short side to {spec.resize_short} ({spec.interpolation}), centre crop {spec.crop}, "
        f"mean {_triple(spec.mean)}, std {_triple(spec.std)}",
        "labels": _labels(checkpoint),
    }
    lines = [f"{fact:15} {value}" for fact, value in facts.items()]
    lines += [f"{'note':15} {note}" for note in checkpoint.notes]
    lines += ["", f"{'layer':36} {'weight':>18} {'parameters':>12} {'MACs':>15}"]
    lines += [
        f"{layer.name:36} {' x '.join(map(str, layer.shape)):>18} {layer.parameters:>12,} {layer.macs:>15,}"
        for layer in layers
    ]
    return "\n".join(lines)


def _labels(checkpoint: Checkpoint) -> str:
    if not checkpoint.labels:
        return "none" if checkpoint.named() is checkpoint else "none; export assumes ImageNet-1k's"
    shown = ", ".join(repr(label) for label in (checkpoint.labels[0], checkpoint.labels[-1]))
    return f"{len(checkpoint.labels)}{', with synsets' if checkpoint.synsets else ''}, from the checkpoint: {shown}"


def _triple(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
