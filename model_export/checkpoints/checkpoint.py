"""Checkpoints: a source -> a Mixer's weights under our names, and everything needed to use them; and back."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from model_export.checkpoints.assumptions import assumptions
from model_export.checkpoints.class_names import ClassNames, imagenet_1k, one_line
from model_export.checkpoints.dimensions import to_ours
from model_export.checkpoints.hub import download
from model_export.checkpoints.hub_folder import CONFIG, HUB_WEIGHTS, HubConfig, read_config, weights_file
from model_export.checkpoints.layouts import recognise
from model_export.checkpoints.metadata import check_square, told_names
from model_export.checkpoints.preprocessing import evaluated_with
from model_export.checkpoints.shards import read_weights
from model_export.checkpoints.source import HUB, what_to_write
from model_export.checkpoints.tensor_file import CheckpointError, Tensors
from model_export.checkpoints.torch_pickle import PickledCodeError
from model_export.mlp_mixer import MlpMixer
from model_export.variants import MixerConfig
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
    synsets: tuple[str, ...] | None = None  # identifiers of the classes, where they have them beside their labels
    notes: tuple[str, ...] = ()  # what was assumed or left out in reading, a sentence each

    def model(self) -> MlpMixer:
        """The network in evaluation mode. Its parameters are `state`'s own tensors: copy before changing them."""
        with torch.device("meta"):  # nothing is initialised only to be overwritten
            model = MlpMixer(self.config)
        model.load_state_dict(self.state, assign=True)
        return model.eval()

    @property
    def names(self) -> ClassNames | None:
        """What the classes are called."""
        return ClassNames(self.labels, self.synsets) if self.labels else None

    def with_names(self, names: ClassNames | None) -> "Checkpoint":
        """The same with other names of its classes, or none."""
        return replace(self, labels=names.labels if names else None, synsets=names.synsets if names else None)

    def with_new_head(self, classes: int, names: ClassNames | None = None) -> "Checkpoint":
        """The same body with a head for `classes` that starts at zero, as the paper fine-tunes; 0 removes the head."""
        state = {name: tensor for name, tensor in self.state.items() if not name.startswith("head.")}
        if classes:
            state |= {"head.weight": torch.zeros(classes, self.config.hidden), "head.bias": torch.zeros(classes)}
        config = replace(self.config, classes=classes)
        return replace(self, config=config, state=state, evaluation=None).with_names(names)

    def named(self, names: ClassNames | None = None) -> "Checkpoint":
        """The same with these names, else its own, else, if it has 1000 classes, ImageNet-1k's and a note of that."""
        if names:
            return self.with_names(names)
        if self.labels or self.config.classes != len(imagenet_1k().labels):
            return self
        note = f"nothing says what its {self.config.classes} classes are: the names of ImageNet-1k are assumed"
        return replace(self.with_names(imagenet_1k()), notes=(*self.notes, note))


def read_checkpoint(source: str | Path) -> Checkpoint:
    """Read any Mixer: a file, a Hub folder (config.json beside its weights), or "hf:OWNER/REPO[@REVISION]".

    Container and layout are recognised by content, dimensions by shape. Headless ones have `config.classes` 0.
    Raises CheckpointError with one sentence if the source is unreadable, hostile, or not a complete Mixer.
    """
    try:
        return _read(source)
    except CheckpointError as error:
        # Names and messages come from the file: they are kept to one printable line.
        sentence = one_line(str(error))
        if len(sentence) > _LONGEST_SENTENCE:
            sentence = sentence[:_LONGEST_SENTENCE] + " ..."
        raise CheckpointError(f"{source}: {sentence}") from None


def _read(source: str | Path) -> Checkpoint:
    if instead := what_to_write(str(source)):
        raise CheckpointError(instead)
    from_hub = str(source).startswith(HUB)
    path = download(str(source)) if from_hub else Path(source)
    hub_config = None
    notes = []
    if path.is_dir():
        path, hub_config = weights_file(path), read_config(path)
    elif (path.parent / CONFIG).is_file() and path.name in HUB_WEIGHTS:
        notes.append(f"the {CONFIG} beside it is not read; name the folder instead, to go by it")
    file, sha256 = read_weights(path)
    try:
        found = recognise(file.tensors)
    except CheckpointError:
        if file.networks:
            raise CheckpointError(str(PickledCodeError(file.networks[0]))) from None
        raise
    config, state = to_ours(found.layout, found.tensors)
    check_square(file.told, config.patch, config.tokens)
    checkpoint = Checkpoint(
        config,
        state,
        evaluated_with(config.image_size, found.layout.interpolation),
        found.layout.name,
        source=Source(kind=found.layout.name, reference=str(source) if from_hub else Path(source).name, sha256=sha256),
    )
    if _METADATA_KEY in file.told:
        return _with_metadata(checkpoint, file.told[_METADATA_KEY])
    names, more = told_names(file.told, config.classes)
    if hub_config:
        checkpoint = _with_hub_config(checkpoint, hub_config)
    notes += more + assumptions(found, config, file.told, hub_config)
    if names and not checkpoint.labels:
        checkpoint = checkpoint.with_names(names)
    return replace(checkpoint, notes=tuple(map(one_line, notes)))


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write our own layout; the same checkpoint gives the same bytes."""
    metadata = {
        "gelu": checkpoint.config.gelu,
        "layer_norm_eps": checkpoint.config.layer_norm_eps,
        "preprocessing": checkpoint.preprocessing.model_dump(),
        "labels": checkpoint.labels,
        "evaluation": checkpoint.evaluation and checkpoint.evaluation.model_dump(),
    }
    if checkpoint.synsets:
        metadata["synsets"] = checkpoint.synsets
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.contiguous() for name, tensor in sorted(checkpoint.state.items())}
    path.write_bytes(save(state, {_METADATA_KEY: json.dumps(metadata, sort_keys=True)}))


def _with_metadata(checkpoint: Checkpoint, told: Any) -> Checkpoint:
    try:
        config = replace(checkpoint.config, gelu=told["gelu"], layer_norm_eps=told["layer_norm_eps"])
        preprocessing = Preprocessing.model_validate(told["preprocessing"])
        labels = tuple(told["labels"]) if told["labels"] else None
        synsets = tuple(told["synsets"]) if told.get("synsets") else None
        evaluation = Evaluation.model_validate(told["evaluation"]) if told["evaluation"] else None
        if preprocessing.crop != config.image_size:
            raise ValueError(f"crop {preprocessing.crop} is not the image size {config.image_size}")
        for kind, names in (("labels", labels), ("synsets", synsets)):
            if names and len(names) != config.classes:
                raise ValueError(f"{len(names)} {kind} for {config.classes} classes")
        return replace(
            checkpoint,
            config=config,
            preprocessing=preprocessing,
            labels=labels,
            synsets=synsets,
            evaluation=evaluation,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"its metadata is damaged: {error}") from None


def _with_hub_config(checkpoint: Checkpoint, hub_config: HubConfig) -> Checkpoint:
    config = checkpoint.config
    names, problems = told_names(hub_config.told, config.classes)
    if problems:
        raise CheckpointError(f"{CONFIG}: {problems[0]}")
    return replace(
        checkpoint,
        config=replace(config, gelu=hub_config.gelu or config.gelu),
        preprocessing=hub_config.preprocessing(config.image_size, checkpoint.preprocessing),
    ).with_names(names)
