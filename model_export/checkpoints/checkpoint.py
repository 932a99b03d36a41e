"""Checkpoints: a source -> a Mixer's weights under our names, and everything needed to use them; and back."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save

from model_export.checkpoints.dimensions import to_ours
from model_export.checkpoints.hub import HUB, download
from model_export.checkpoints.hub_folder import HubConfig, read_config, weights_file
from model_export.checkpoints.layouts import recognise
from model_export.checkpoints.preprocessing import evaluated_with
from model_export.checkpoints.tensor_file import CheckpointError, Tensors, read_tensors
from model_export.checkpoints.wrappers import unwrap
from model_export.mlp_mixer import MlpMixer
from model_export.variants import MixerConfig
from service.bundles.bundle import sha256_of
from service.bundles.manifest import Evaluation, Preprocessing, Source

__all__ = ["Checkpoint", "CheckpointError", "read_checkpoint", "write_checkpoint"]

_METADATA_KEY = "mixer"  # of our own safetensors files: JSON with what shapes cannot tell
_LONGEST_SENTENCE = 400


@dataclass(frozen=True)
class Checkpoint:
    """A Mixer's weights under our names, and what is needed to use them."""

    config: MixerConfig
    state: Tensors
    preprocessing: Preprocessing
    layout: str  # a name in model_export/checkpoints/layouts.py; "mixer" is ours
    labels: tuple[str, ...] | None = None
    evaluation: Evaluation | None = None
    source: Source | None = None  # the file that was read

    def model(self) -> MlpMixer:
        """The network in evaluation mode. Its parameters are `state`'s own tensors: copy before changing them."""
        with torch.device("meta"):  # nothing is initialised only to be overwritten
            model = MlpMixer(self.config)
        model.load_state_dict(self.state, assign=True)
        return model.eval()

    def with_new_head(self, classes: int, labels: tuple[str, ...] | None = None) -> "Checkpoint":
        """The same body with a head for `classes` that starts at zero, as the paper fine-tunes; 0 removes the head."""
        state = {name: tensor for name, tensor in self.state.items() if not name.startswith("head.")}
        if classes:
            state |= {"head.weight": torch.zeros(classes, self.config.hidden), "head.bias": torch.zeros(classes)}
        config = replace(self.config, classes=classes)
        return replace(self, config=config, state=state, labels=labels, evaluation=None)


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Read any Mixer: a file, a Hub folder (config.json beside its weights), or "hf:OWNER/REPO[@REVISION]".

    Container and layout are recognised by content, dimensions by shape. Headless ones have `config.classes` 0.
    Raises CheckpointError with one sentence if the source is unreadable, hostile, or not a complete Mixer.
    """
    try:
        return _read(source)
    except CheckpointError as error:
        # Names and messages come from the file: they are kept to one printable line.
        sentence = "".join(c if c.isprintable() else " " for c in " ".join(str(error).split()))
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = sentence[:_LONGEST_SENTENCE] + " ..."
        raise CheckpointError(f"{source}: {sentence}") from None


def _read(source: str | Path) -> Checkpoint:
    reference = str(source) if str(source).startswith(HUB) else Path(source).name
    path = download(str(source)) if str(source).startswith(HUB) else Path(source)
    hub_config = None
    if path.is_dir():
        path, hub_config = weights_file(path), read_config(path)
    tensors, metadata = read_tensors(path)
    layout, tensors = recognise(unwrap(tensors))
    config, state = to_ours(layout, tensors)
    checkpoint = Checkpoint(
        config,
        state,
        evaluated_with(config.image_size, layout.interpolation),
        layout.name,
        source=Source(kind=layout.name, reference=reference, sha256=sha256_of(path)),
    )
    if _METADATA_KEY in metadata:
        return _with_metadata(checkpoint, metadata[_METADATA_KEY])
    return _with_hub_config(checkpoint, hub_config) if hub_config else checkpoint


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
    path.write_bytes(save(state, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}))


def _with_metadata(checkpoint: Checkpoint, metadata: str) -> Checkpoint:
    try:
        told = json.loads(metadata)
        config = replace(checkpoint.config, gelu=told["gelu"], layer_norm_eps=told["layer_norm_eps"])
        preprocessing = Preprocessing.model_validate(told["preprocessing"])
        labels = tuple(told["labels"]) if told["labels"] else None
        evaluation = Evaluation.model_validate(told["evaluation"]) if told["evaluation"] else None
        if preprocessing.crop != config.image_size:
            raise ValueError(f"crop {preprocessing.crop} is not the image size {config.image_size}")
        if labels and len(labels) != config.classes:
            raise ValueError(f"{len(labels)} labels for {config.classes} classes")
        return replace(checkpoint, config=config, preprocessing=preprocessing, labels=labels, evaluation=evaluation)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"its metadata is damaged: {error}") from None


def _with_hub_config(checkpoint: Checkpoint, hub_config: HubConfig) -> Checkpoint:
    config = checkpoint.config
    if hub_config.labels and len(hub_config.labels) != config.classes:
        raise CheckpointError(f"config.json names {len(hub_config.labels)} labels, the head has {config.classes}")
    return replace(
        checkpoint,
        config=replace(config, gelu=hub_config.gelu or config.gelu),
        preprocessing=hub_config.preprocessing(config.image_size, checkpoint.preprocessing),
        labels=hub_config.labels,
    )
