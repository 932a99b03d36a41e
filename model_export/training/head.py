"""The head that a run starts with: the checkpoint's own for classes that it knows, or a new one."""

import math
from dataclasses import replace

import torch

from model_export.checkpoints.checkpoint import Checkpoint
from model_export.checkpoints.class_matching import match_classes
from model_export.checkpoints.class_names import described
from model_export.training.snapshot import TrainingError


def with_head_for(
    start: Checkpoint, classes: tuple[str, ...], keep: bool | None = None, bias: float | None = 0.0
) -> tuple[Checkpoint, str]:
    """The start with a head for `classes`, in that order, and in words which.

    It keeps the weights of the classes, and what the checkpoint calls them, where its labels name them all, in any
    order and beside others. Else it is new, with weights of zero and `bias`, or with the bias
    that makes all classes equally likely to a sigmoid. `keep` asks for one or the other.
    Raises TrainingError naming the classes that the checkpoint does not know.
    """
    named = start.named()
    rows = match_classes(classes, named.names)
    known = [row for row in rows if row is not None]
    fits = len(known) == len(rows) == len(set(known))
    if keep and not fits:
        unknown = [name for name, row in zip(classes, rows, strict=True) if row is None] or ["several of one class"]
        raise TrainingError(f"--keep-head: the checkpoint's labels do not name {', '.join(unknown[:5])}")
    if named.names is None or not fits or keep is False:
        fresh = start.with_new_head(len(classes), described(classes))
        bias = round(-math.log(len(classes)), 1) if bias is None else bias  # -6.9 for ImageNet's
        state = fresh.state | {"head.bias": torch.full((len(classes),), bias)}
        return replace(fresh, state=state), f"new, for {len(classes):,} classes"
    chosen = torch.tensor(known)
    weights = {name: start.state[name][chosen] for name in ("head.weight", "head.bias")}
    kept = named.with_new_head(len(known), named.names.of(known))
    return replace(kept, state=kept.state | weights), f"kept, {len(known):,} of the checkpoint's classes"
