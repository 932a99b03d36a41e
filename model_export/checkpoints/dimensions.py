"""Tensors in a known layout -> a Mixer's configuration and its weights under our names, every one checked."""

import math

import torch
from torch import Tensor

from model_export.checkpoints.layout import Layout
from model_export.checkpoints.tensor_file import CheckpointError, Tensors
from model_export.mlp_mixer import MlpMixer
from model_export.variants import MixerConfig


def to_ours(layout: Layout, tensors: Tensors) -> tuple[MixerConfig, Tensors]:
    """The configuration that the shapes imply, and float32 weights under our names; they share memory with `tensors`
    where these are float32 too.

    Without a head, `config.classes` is 0. Raises CheckpointError, in the file's own names, if a weight is missing,
    unexpected, misshapen, not floating point, or not finite.
    """
    theirs = layout.their_names(tensors)
    if missing := [name for name in theirs.values() if name not in tensors]:
        raise CheckpointError(f"missing {_some(missing)}")
    if unexpected := sorted(tensors.keys() - set(theirs.values())):
        raise CheckpointError(f"unexpected {_some(unexpected)}")
    for name in theirs.values():
        _check_kind(name, tensors[name])
    state = {ours: layout.oriented(ours, tensors[name]) for ours, name in theirs.items()}
    config = _infer(layout, {ours: (name, state[ours]) for ours, name in theirs.items()})
    with torch.device("meta"):
        expected = MlpMixer(config).state_dict()
    for ours, name in theirs.items():
        found, wanted = list(state[ours].shape), list(expected[ours].shape)
        if found != wanted:
            if layout.flax:  # as the file has them
                found, wanted = found[::-1], wanted[::-1]
            raise CheckpointError(f"{name} has shape {found}, expected {wanted}")
    state = {ours: tensor.float() for ours, tensor in state.items()}
    for ours, name in theirs.items():
        if not torch.isfinite(state[ours]).all():
            raise CheckpointError(f"{name} holds values that are not finite (NaN or infinity)")
    return config, state


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:5])}" + (f" ({len(names)} in all)" if len(names) > 5 else "")


def _check_kind(name: str, tensor: Tensor) -> None:
    if not tensor.is_floating_point():
        raise CheckpointError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, weights are floating point")
    # Anything else names more values than the file holds, and could fill the memory: meta, sparse, expanded tensors.
    plain = tensor.device.type == "cpu" and tensor.layout is torch.strided
    if not plain or tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointError(f"{name} is no plain, dense tensor")


def _infer(layout: Layout, weights: dict[str, tuple[str, Tensor]]) -> MixerConfig:
    def shape(ours: str, dimensions: int) -> tuple[int, ...]:
        name, tensor = weights[ours]
        if tensor.ndim != dimensions:
            raise CheckpointError(f"{name} has {tensor.ndim} dimensions, expected {dimensions}")
        if 0 in tensor.shape:
            raise CheckpointError(f"{name} is empty")
        return tuple(tensor.shape)

    hidden, channels, patch, _ = shape("stem.weight", 4)
    tokens_hidden, tokens = shape("blocks.0.token_mixing.dense_0.weight", 2)
    channels_hidden, _ = shape("blocks.0.channel_mixing.dense_0.weight", 2)
    classes = shape("head.weight", 2)[0] if "head.weight" in weights else 0
    if shape("blocks.0.token_mixing.dense_1.weight", 2)[1] * 2 == tokens_hidden:
        raise CheckpointError("is a gMixer, whose MLPs are gated; only MLP-Mixers are taken")
    if channels != 3:
        raise CheckpointError(f"{weights['stem.weight'][0]} takes {channels} colour channels, only RGB is served")
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(f"{tokens} tokens are not a square grid of patches")
    layers = len({name.split(".")[1] for name in weights if name.startswith("blocks.")})
    return MixerConfig(
        patch,
        hidden,
        tokens_hidden,
        channels_hidden,
        layers,
        side * patch,
        classes,
        layout.gelu,
        layout.layer_norm_eps,
    )
