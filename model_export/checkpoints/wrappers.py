"""Wrappers: what frameworks put before a network's own names when they save it, under whatever key."""

import re

from model_export.checkpoints.tensor_file import CheckpointError, Tensors

# Put around a module inside the network, so that its names have them in the middle.
_INNER = re.compile(r"(?<![^./])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)[./]")
# Averages that optimizers keep under the weights' own names.
_MOMENTS = re.compile(
    r"(?i)(^|[./])(mu|nu|exp_avg\w*|momentum\w*|moments?|optimizers?|optimizer_states?|opt_state)[./]"
)
# Where a run saved several, the averaged weights come first: they are what it evaluated.
_AVERAGED = re.compile(r"(?i)(^|[./_])(ema|swa|averaged?)(?![a-z])")


def without_inner_wrappers(tensors: Tensors) -> Tensors:
    """Names without what torch.compile, FSDP and activation checkpointing put into them."""
    return {_INNER.sub("", name): tensor for name, tensor in tensors.items()}


def prefix_of_one(prefixes: list[str], tensors: Tensors) -> str:
    """The prefix of the one Mixer to take: the averaged weights', if there are such.

    Raises CheckpointError if several are left that differ.
    """
    weights = [prefix for prefix in prefixes if not _MOMENTS.search(prefix)] or prefixes
    candidates = [prefix for prefix in weights if _AVERAGED.search(prefix)] or weights
    first = candidates[0]
    if any(not _equal(under(first, tensors), under(other, tensors)) for other in candidates[1:]):
        named = ", ".join(prefix.rstrip("./") or "the outermost" for prefix in candidates[:5])
        raise CheckpointError(f"holds several Mixers ({named}); save the one that you want as a file of its own")
    return first


def under(prefix: str, tensors: Tensors) -> Tensors:
    """The tensors whose names begin so, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _equal(some: Tensors, others: Tensors) -> bool:
    return some.keys() == others.keys() and all(
        tensor.shape == others[name].shape and tensor.equal(others[name]) for name, tensor in some.items()
    )
