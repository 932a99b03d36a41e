"""A folder as the Hub lays it out: weights, and timm's config.json, which says how they were evaluated."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model_export.checkpoints.preprocessing import CROP_PCT, evaluated_with
from model_export.checkpoints.tensor_file import CheckpointError
from model_export.variants import Gelu
from service.bundles.manifest import Preprocessing

CONFIG = "config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "*.safetensors", "*.bin", "*.pth", "*.npz")  # by preference
_GELUS: dict[object, Gelu] = {"gelu": "erf", "gelu_tanh": "tanh"}


def weights_files(folder: Path) -> list[Path]:
    """The folder's weights: the files of the first pattern of WEIGHTS that matches any."""
    return next((files for pattern in WEIGHTS if (files := sorted(folder.glob(pattern)))), [])


def weights_file(folder: Path) -> Path:
    """The one file of weights; raises CheckpointError if there is none or there are several."""
    files = weights_files(folder)
    if not files:
        raise CheckpointError(f"a folder without weights: none of {', '.join(WEIGHTS)} is in it")
    if len(files) > 1:
        raise CheckpointError(f"a folder with several weights: {', '.join(file.name for file in files[:5])}; name one")
    return files[0]


@dataclass(frozen=True)
class HubConfig:
    """What config.json says; `evaluation` is timm's pretrained_cfg, in which any entry may be missing."""

    evaluation: Mapping[str, Any]
    labels: tuple[str, ...] | None
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
    """The folder's config.json, None if there is none; raises CheckpointError if it is damaged."""
    try:
        text = (folder / CONFIG).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{CONFIG} is not UTF-8: {error.reason}") from None
    try:
        root = json.loads(text)
        evaluation = root.get("pretrained_cfg") or root  # timm before 0.9 wrote it flat
        both = root | evaluation
        activation = (root.get("model_args") or {}).get("act_layer", "gelu")
        if activation not in _GELUS:
            raise CheckpointError(f"{CONFIG}: activation {activation!r} is no GELU")
        gelu = _GELUS[activation] if activation != "gelu" else None
        return HubConfig(evaluation, _labels(both.get("label_names"), both.get("label_descriptions") or {}), gelu)
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{CONFIG} is damaged: {error}") from None


def _labels(names: Any, descriptions: Mapping[str, str]) -> tuple[str, ...] | None:
    """Names by class index, each by its description where there is one; timm allows a list or {index: name}."""
    if not names:
        return None
    if isinstance(names, dict):
        names = [names.get(str(i), f"class {i}") for i in range(1 + max(map(int, names)))]
    return tuple(" ".join(str(descriptions.get(name, name)).split()) for name in names)
