"""A layout: the names and orientations that one framework gives a Mixer's weights, and its numerics.

Ours follow the paper's and Flax's names with torch's shapes (model_export/mlp_mixer.py).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from model_export.checkpoints.tensor_file import CheckpointError
from model_export.variants import Gelu

_MLPS = [f"{mlp}.dense_{n}" for mlp in ("token_mixing", "channel_mixing") for n in (0, 1)]
BLOCK = ["layer_norm_0", "layer_norm_1", *_MLPS]  # modules of a block, under our names
BODY = ["stem", "pre_head_layer_norm"]


Orientation = Callable[[str, Tensor], Tensor]  # our name of a weight, their tensor -> ours


def as_torch_has_it(_ours: str, tensor: Tensor) -> Tensor:
    """Convolutions OIHW, linear layers [out, in]."""
    return tensor


def as_flax_has_it(ours: str, tensor: Tensor) -> Tensor:
    """Convolutions HWIO, linear layers [in, out]."""
    if "_mixing." in ours:
        tensor = tensor.squeeze()  # the older Flax layout keeps an axis of one
    if tensor.ndim == 4:
        return tensor.permute(3, 2, 0, 1)  # HWIO -> OIHW
    return tensor.T if tensor.ndim == 2 else tensor


@dataclass(frozen=True)
class Layout:
    """One framework's names: `modules` maps ours to theirs.

    In them {i} is the block's number, from `first_block`, {leaf} weight or bias, and {end+1} one more than the first
    number after the blocks.
    """

    name: str
    modules: Mapping[str, str]
    gelu: Gelu = "erf"
    layer_norm_eps: float = 1e-6
    interpolation: str = "bicubic"
    flax: bool = False  # a norm's weight is its scale, others' are kernels
    oriented: Orientation = as_torch_has_it  # without copying, where it can be
    first_block: int = 0
    evaluated: bool = True  # somebody published how images are prepared

    @cached_property
    def _token_mixing(self) -> re.Pattern[str]:
        """What tells a Mixer of this layout from everything else: its token-mixing weights, and any prefix."""
        dense = [self._escaped(self.modules[module]) for module in BLOCK if module.startswith("token_mixing")]
        return re.compile(f"((?:.*[./])?)(?:{'|'.join(dense)})")

    @cached_property
    def _block(self) -> re.Pattern[str]:
        return re.compile("|".join(self._escaped(self.modules[module]) for module in BLOCK))

    @staticmethod
    def _escaped(template: str) -> str:
        return re.escape(template).replace(r"\{i\}", r"(\d{1,4})").replace(r"\{leaf\}", r"\w+") + "$"

    def prefixes(self, names: Iterable[str]) -> list[str]:
        """What stands before the token-mixing weights of this layout: once for each Mixer, "" for bare names."""
        return list(dict.fromkeys(match[1] for name in names if (match := self._token_mixing.match(name))))

    def their_names(self, names: Iterable[str]) -> dict[str, str]:
        """Our name -> theirs of every weight that a complete Mixer has, as deep as these names say it is.

        The head is left out where `names` have none. Raises CheckpointError if blocks are missing.
        """
        first = self.first_block
        found = {int(i) for name in names if (match := self._block.match(name)) for i in match.groups() if i}
        depth = max(found) - first + 1
        if gap := sorted(set(range(first, first + depth)) - found):
            missing = ", ".join(str(block - first) for block in gap[:5])
            raise CheckpointError(f"blocks {missing} of {depth} are missing")
        theirs = {ours: name for module in BODY for ours, name in self._leaves(module, depth)}
        theirs |= {
            ours: name for i in range(depth) for module in BLOCK for ours, name in self._leaves(module, depth, i)
        }
        head = dict(self._leaves("head", depth))
        return theirs | (head if set(head.values()) & set(names) else {})

    def _leaves(self, module: str, depth: int, block: int | None = None) -> list[tuple[str, str]]:
        prefix = "" if block is None else f"blocks.{block}."
        weight = "weight" if not self.flax else "scale" if "norm" in module else "kernel"
        first = self.first_block

        def theirs(leaf: str) -> str:
            name = self.modules[module].replace("{leaf}", leaf).replace("{i}", str(first + (block or 0)))
            return re.sub(r"\{end\+(\d)\}", lambda plus: str(first + depth + int(plus[1])), name)

        return [(f"{prefix}{module}.weight", theirs(weight)), (f"{prefix}{module}.bias", theirs("bias"))]
