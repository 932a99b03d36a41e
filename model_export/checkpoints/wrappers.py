"""Wrappers: what frameworks put around a network's own names when they save it."""

import re

from model_export.checkpoints.tensor_file import Tensors

# Where a run saved several, the averaged weights come first: they are what it evaluated.
_WRAPPERS = [
    re.compile(rf"{wrapper}[./]")
    for wrapper in (
        "state_dict_ema",  # timm's training script
        "model_ema",
        "state_dict",  # mmpretrain, Lightning, timm
        "model",
        "module",  # DistributedDataParallel, DeepSpeed, averaged models
        "_orig_mod",  # torch.compile
        "timm_model",  # transformers' TimmWrapper
        "params",  # Flax train states
        r"opt[./]target",  # Flax train states before optax
    )
]


def unwrap(tensors: Tensors) -> Tensors:
    """The tensors inside all wrappers, nested in any order, without their prefixes; what lies beside is left out."""
    while wrapper := next((w for w in _WRAPPERS if any(w.match(name) for name in tensors)), None):
        tensors = {name[match.end() :]: tensor for name, tensor in tensors.items() if (match := wrapper.match(name))}
    return tensors
