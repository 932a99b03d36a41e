"""What is inside a checkpoint: its dimensions, its numerics, and every layer with its parameters and arithmetic."""

from dataclasses import dataclass

import torch
from torch import nn

from model_export.checkpoints.checkpoint import Checkpoint
from model_export.mlp_mixer import MlpMixer
from model_export.variants import MixerConfig


@dataclass(frozen=True)
class Layer:
    """One layer: `shape` is its weight's, `macs` the multiply-accumulates of one image.

    A LayerNorm counts two a value (normalise, scale and shift). With that, B/16 and L/16 have the 12.61 and 44.57 GMACs
    that mmpretrain publishes; MixerConfig.macs, which manifests and benchmarks use, leaves norms out.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int
    macs: int


def layers_of(config: MixerConfig) -> list[Layer]:
    """Every layer with weights, in the order in which an image meets them."""
    with torch.device("meta"):
        model = MlpMixer(config)
    layers = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.LayerNorm):
            parameters = sum(parameter.numel() for parameter in module.parameters())
            macs = module.weight.numel() * _uses_of_a_weight(name, module, config)
            layers.append(Layer(name, tuple(module.weight.shape), parameters, macs))
    return layers


def _uses_of_a_weight(name: str, module: nn.Module, config: MixerConfig) -> int:
    if isinstance(module, nn.LayerNorm):
        return 2 * config.tokens
    if "token_mixing" in name:
        return config.hidden  # one column of the table of tokens for each channel
    return 1 if name == "head" else config.tokens


def describe(checkpoint: Checkpoint) -> dict[str, object]:
    """Everything `inspect` shows, ready for JSON: parameters, MACs, classes (0: headless), numerics, layers."""
    config, layers = checkpoint.config, layers_of(checkpoint.config)
    return {
        "source": checkpoint.source and checkpoint.source.model_dump(),
        "layout": checkpoint.layout,
        "variant": config.variant,
        "patch": config.patch,
        "image_size": config.image_size,
        "layers": config.layers,
        "hidden": config.hidden,
        "tokens": config.tokens,
        "tokens_hidden": config.tokens_hidden,
        "channels_hidden": config.channels_hidden,
        "classes": config.classes,
        "parameters": config.parameters,
        "gmacs": round(sum(layer.macs for layer in layers) / 1e9, 4),
        "gmacs_without_norms": round(config.macs / 1e9, 4),
        "gelu": config.gelu,
        "layer_norm_eps": config.layer_norm_eps,
        "preprocessing": checkpoint.preprocessing.model_dump(),
        "labels": len(checkpoint.labels) if checkpoint.labels else 0,
        "synsets": len(checkpoint.synsets) if checkpoint.synsets else 0,
        "notes": checkpoint.notes,
        "layer_table": [vars(layer) for layer in layers],
    }
