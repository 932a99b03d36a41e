"""Where a training run stands, in a file beside its output, from which it goes on to the same weights."""

import json
from pathlib import Path
from typing import Any

import torch

from model_export.errors import ExportError
from model_export.training.atomic import replacing

Settings = dict[str, Any]  # what decides a run's weights, in JSON's types
_KEYS = {"settings", "step", "lines", "loss", "seen", "best", "model", "optimizer", "average", "batches", "random"}
_IMAGES = "images"  # the setting that lists them by name


class TrainingError(ExportError):
    """A run that cannot start, go on or be taken up again; the message says what to do."""


def path_of(out: Path) -> Path:
    """Beside the output: OUT.resume."""
    return out.with_name(f"{out.name}.resume")


def write_snapshot(path: Path, settings: Settings, state: dict[str, Any]) -> None:
    """Replace the file at once; tensors, numbers and containers only."""
    with replacing(path) as partial:
        torch.save(state | {"settings": json.dumps(settings, sort_keys=True)}, partial)


def bf16_of(path: Path) -> bool | None:
    """Whether the run that wrote the snapshot was in bfloat16; None without a readable one."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return bool(json.loads(state["settings"])["bf16"])
    except Exception:  # `read_snapshot` says what is wrong with it
        return None


def read_snapshot(path: Path, settings: Settings) -> dict[str, Any] | None:
    """The state that was written, on the CPU; None if there is no file.

    Raises TrainingError if it is damaged, or was written by a run with other settings.
    """
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        theirs = json.loads(state["settings"])
        missing = _KEYS - state.keys()
    except Exception as error:  # damaged and hostile files provoke nearly every class there is
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise TrainingError(f"{path}: cannot be read ({first_line}); delete it to start again") from None
    if missing:
        raise TrainingError(f"{path}: is not a training run's; delete it to start again")
    ours = json.loads(json.dumps(settings))
    if gone := sorted(set(theirs.get(_IMAGES, ())) - set(ours.get(_IMAGES, ()))):
        raise TrainingError(
            f"{path}: that run had {len(gone):,} images that are not there now: {', '.join(gone[:5])}; put them back "
            "to resume, or delete the file to start again"
        )
    if new := sorted(set(ours.get(_IMAGES, ())) - set(theirs.get(_IMAGES, ()))):
        raise TrainingError(
            f"{path}: {len(new):,} images are new since that run: {', '.join(new[:5])}; take them away to resume, or "
            "delete the file to start again"
        )
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise TrainingError(
                f"{path}: that run had {name} {theirs.get(name)!r}, this one has {ours.get(name)!r}; "
                "run it with the same settings to resume, or delete the file to start again"
            )
    resumed: dict[str, Any] = state
    return resumed
