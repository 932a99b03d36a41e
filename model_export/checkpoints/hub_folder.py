"""A folder as the Hub lays it out: weights, and timm's config.json, which says how they were evaluated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_export.checkpoints.metadata import check_config
from model_export.checkpoints.preprocessing import CROP_PCT, evaluated_with
from model_export.checkpoints.tensor_file import CheckpointError
from model_export.variants import Gelu
from service.bundles.manifest import Preprocessing

CONFIG = "config.json"
# By preference. An index names the shards that the weights lie in.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "*.bin",
    "*.pth",
    "*.npz",
)
HUB_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # files of these names have a config.json of their own
_GELUS: dict[object, Gelu] = {"gelu": "erf", "gelu_tanh": "tanh"}


def weights_files(folder: Path) -> list[Path]:
    """The folder's weights: the files of the first pattern of WEIGHTS that matches any."""
    return next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), [])


def weights_file(folder: Path) -> Path:
    """The one file of weights; raises CheckpointError if there is none or there are several."""
    files = weights_files(folder)
    if not files and (folder / "manifest.json").is_file():
        raise CheckpointError("is a bundle; name the checkpoint that it was made from")
    if not files:
        raise CheckpointError(f"a folder without weights: none of {', '.join(WEIGHTS)} is in it")
    if len(files) > 1:
        raise CheckpointError(f"a folder with several weights: {', '.join(file.name for file in files[:5])}; name one")
    return files[0]


@dataclass(frozen=True)
class HubConfig:
    """What config.json says; `evaluation` is timm's pretrained_cfg, in which any entry may be missing."""

    evaluation: Mapping[str, Any]
    told: Mapping[str, Any]  # all of it
    gelu: Gelu | None

    def preprocessing(self, image_size: int, default: Preprocessing) -> Preprocessing:
        """The preprocessing it asks for, and the default for what it leaves open.

        `image_size` is the weights' own: a Mixer takes no other, whatever `input_size` says.
        Raises CheckpointError for what the service does not do.
        """
        told = {key: value for key, value in self.evaluation.items() if value is not None}
        if (mode := told.get("crop_mode", "center")) != "center":
            raise CheckpointError(f"{CONFIG} asks for crop_mode {mode!r}, only 'center' is served")
        try:
            return evaluated_with(
                image_size,
                str(told.get("interpolation", default.interpolation)),
                float(told.get("crop_pct", CROP_PCT)),
                [float(value) for value in told.get("mean", default.mean)],
                [float(value) for value in told.get("std", default.std)],
            )
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"{CONFIG}: {error}") from None


def read_config(folder: Path) -> HubConfig | None:
    """The folder's config.json, None if there is none.

    Raises CheckpointError if it is damaged or asks for what is not served: other activations, images that are not
    square or not RGB.
    """
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{CONFIG} is not UTF-8: {error.reason}") from None
    try:
        root = json.loads(text)
        evaluation = root.get("pretrained_cfg") or root  # timm before 0.9 wrote it flat
        activation = (root.get("model_args") or {}).get("act_layer", "gelu")
        if activation not in _GELUS:
            raise CheckpointError(f"{CONFIG}: activation {activation!r} is no GELU")
        gelu = _GELUS[activation] if activation != "gelu" else None
        config = HubConfig(evaluation, root, gelu)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{CONFIG} is damaged: {error}") from None

    try:
        check_config(root)
    except CheckpointError as error:
        raise CheckpointError(f"{CONFIG}: {error}") from None
    return config
