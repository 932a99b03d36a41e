"""What weights leave open, said aloud, so that whoever knows better can say so."""

from collections.abc import Mapping
from typing import Any

from model_export.checkpoints.hub_folder import HubConfig
from model_export.checkpoints.layouts import Recognised
from model_export.checkpoints.metadata import says_square
from model_export.variants import MixerConfig


def assumptions(
    found: Recognised, config: MixerConfig, told: Mapping[Any, Any], hub_config: HubConfig | None
) -> list[str]:
    """A sentence each on what nothing in the file or beside it says."""
    notes = []
    side = config.image_size
    if not any(says_square(part, side) for part in (told, hub_config.told if hub_config else {})):
        notes.append(
            f"images of {side}x{side} pixels are assumed: weights tell the {config.tokens} patches of {config.patch} "
            "pixels and not their arrangement"
        )
    if not found.layout.evaluated and not hub_config:
        notes.append(
            f"the {found.layout.name} layout comes without preprocessing, so an ordinary one is assumed; "
            "--interpolation, --crop-pct, --mean and --std say otherwise"
        )
    if not config.classes:
        heads = [
            name
            for name, tensor in found.beside.items()
            if tensor.ndim == 2 and tensor.shape[1] == config.hidden and name.endswith("weight")
        ]
        notes += [
            f"{name} beside the Mixer looks like its head and is not read: the file names it otherwise"
            for name in heads
        ]
    return notes
