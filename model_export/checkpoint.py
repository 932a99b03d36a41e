"""Checkpoints: recognise a file's layout by its keys, infer the Mixer from its shapes, read and write our own."""

import json
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from model_export.mlp_mixer import MlpMixer
from model_export.variants import MixerConfig
from service.manifest import Evaluation, Preprocessing

State = dict[str, Tensor]

_METADATA_KEY = "mixer"  # of our own safetensors files: JSON with what shapes cannot tell


class CheckpointError(Exception):
    """A file that is no usable Mixer checkpoint; the message says what is missing or unexpected."""


@dataclass(frozen=True)
class Checkpoint:
    """A Mixer's weights under our names, and what is needed to use them."""

    config: MixerConfig
    state: State
    preprocessing: Preprocessing
    layout: str  # "mixer" (ours) or "timm"
    labels: tuple[str, ...] | None = None
    evaluation: Evaluation | None = None

    def model(self) -> MlpMixer:
        """The network with these weights, in evaluation mode."""
        model = MlpMixer(self.config)
        model.load_state_dict(self.state)
        return model.eval()

    def with_new_head(self, classes: int, labels: tuple[str, ...] | None = None) -> "Checkpoint":
        """The same body with a head for `classes` that starts at zero, as the paper fine-tunes; 0 removes the head."""
        state = {name: tensor for name, tensor in self.state.items() if not name.startswith("head.")}
        if classes:
            state |= {"head.weight": torch.zeros(classes, self.config.hidden), "head.bias": torch.zeros(classes)}
        config = replace(self.config, classes=classes)
        return replace(self, config=config, state=state, labels=labels, evaluation=None)


# timm's names (timm/models/mlp_mixer.py) -> ours; ours follow the paper's and Flax's.
_FROM_TIMM = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^stem\.proj\.", "stem."),
        (r"^norm\.", "pre_head_layer_norm."),
        (r"^(blocks\.\d+)\.norm1\.", r"\1.layer_norm_0."),
        (r"^(blocks\.\d+)\.norm2\.", r"\1.layer_norm_1."),
        (r"^(blocks\.\d+)\.mlp_tokens\.fc1\.", r"\1.token_mixing.dense_0."),
        (r"^(blocks\.\d+)\.mlp_tokens\.fc2\.", r"\1.token_mixing.dense_1."),
        (r"^(blocks\.\d+)\.mlp_channels\.fc1\.", r"\1.channel_mixing.dense_0."),
        (r"^(blocks\.\d+)\.mlp_channels\.fc2\.", r"\1.channel_mixing.dense_1."),
    )
]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a `.safetensors` or `.pth` file in our own layout or timm's.

    Raises CheckpointError with one sentence if it is unreadable, hostile, or not a complete Mixer.
    """
    state, metadata = _read_tensors(path)
    if "stem.proj.weight" in state:
        layout, state = "timm", {_to_ours(name): tensor for name, tensor in state.items()}
    elif "stem.weight" in state:
        layout = "mixer"
    else:
        raise CheckpointError(f"{path}: no known Mixer layout (neither stem.weight nor stem.proj.weight is in it)")
    config = _infer_config(path, state)
    state = _strictly(path, config, state)
    if _METADATA_KEY in metadata:
        return _with_metadata(path, Checkpoint(config, state, _timm_preprocessing(config), layout), metadata)
    return Checkpoint(config, state, _timm_preprocessing(config), layout)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write our own layout; the same checkpoint gives the same bytes."""
    metadata = {
        "gelu": checkpoint.config.gelu,
        "layer_norm_eps": checkpoint.config.layer_norm_eps,
        "preprocessing": checkpoint.preprocessing.model_dump(),
        "labels": checkpoint.labels,
        "evaluation": checkpoint.evaluation and checkpoint.evaluation.model_dump(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in sorted(checkpoint.state.items())}
    save_file(state, path, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def _read_tensors(path: Path) -> tuple[State, dict[str, str]]:
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except Exception as error:  # damaged and hostile files provoke nearly every class there is
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {first_line}") from None
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise CheckpointError(f"{path}: holds no mapping of names to tensors")
    return loaded, {}


def _to_ours(name: str) -> str:
    for pattern, ours in _FROM_TIMM:
        name = pattern.sub(ours, name)
    return name


def _infer_config(path: Path, state: State) -> MixerConfig:
    """Every dimension from the shapes, with the numerics that timm gives these weights."""
    try:
        hidden, _, patch, _ = state["stem.weight"].shape
        tokens_hidden, tokens = state["blocks.0.token_mixing.dense_0.weight"].shape
        channels_hidden, _ = state["blocks.0.channel_mixing.dense_0.weight"].shape
        classes, _ = state["head.weight"].shape
    except KeyError as error:
        raise CheckpointError(f"{path}: {error.args[0]} is missing") from None
    except ValueError:
        raise CheckpointError(f"{path}: a weight has the wrong number of dimensions") from None
    side = math.isqrt(tokens)
    if side * side != tokens:
        raise CheckpointError(f"{path}: {tokens} tokens are not a square grid of patches")
    layers = 1 + max(int(name.split(".")[1]) for name in state if re.match(r"blocks\.\d+\.", name))
    return MixerConfig(patch, hidden, tokens_hidden, channels_hidden, layers, side * patch, classes)


def _strictly(path: Path, config: MixerConfig, state: State) -> State:
    """The tensors as float32, after every name and shape has been checked against the network's."""
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in MlpMixer(config).state_dict().items()}
    if missing := sorted(expected.keys() - state.keys()):
        raise CheckpointError(f"{path}: missing {', '.join(missing[:5])} ({len(missing)} in all)")
    if unexpected := sorted(state.keys() - expected.keys()):
        raise CheckpointError(f"{path}: unexpected {', '.join(unexpected[:5])} ({len(unexpected)} in all)")
    for name, shape in expected.items():
        if state[name].shape != shape:
            raise CheckpointError(f"{path}: {name} has shape {list(state[name].shape)}, expected {list(shape)}")
    return {name: tensor.float() for name, tensor in state.items()}


def _with_metadata(path: Path, checkpoint: Checkpoint, metadata: dict[str, str]) -> Checkpoint:
    try:
        told = json.loads(metadata[_METADATA_KEY])
        return replace(
            checkpoint,
            config=replace(checkpoint.config, gelu=told["gelu"], layer_norm_eps=told["layer_norm_eps"]),
            preprocessing=Preprocessing.model_validate(told["preprocessing"]),
            labels=tuple(told["labels"]) if told["labels"] else None,
            evaluation=Evaluation.model_validate(told["evaluation"]) if told["evaluation"] else None,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its metadata is damaged: {error}") from None


def _timm_preprocessing(config: MixerConfig) -> Preprocessing:
    """timm's default for Mixers: mean and std 0.5, bicubic, crop_pct 0.875 (resize 256 for 224)."""
    return Preprocessing(
        resize_short=math.floor(config.image_size / 0.875),
        interpolation="bicubic",
        crop=config.image_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
