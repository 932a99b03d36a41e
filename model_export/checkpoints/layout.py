"""A layout: the names and orientations that one framework gives a Mixer's weights, and its numerics.

Ours follow the paper's and Flax's names with torch's shapes (model_export/mlp_mixer.py).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from model_export.checkpoints.tensor_file import CheckpointError
from model_export.variants import Gelu

_MLPS = [f"{mlp}.dense_{n}" for mlp in ("token_mixing", "channel_mixing") for n in (0, 1)]
BLOCK = ["layer_norm_0", "layer_norm_1", *_MLPS]  # modules of a block, under our names
BODY = ["stem", "pre_head_layer_norm"]


@dataclass(frozen=True)
class Layout:
    """One framework's names: `modules` maps ours to theirs, where {i} is the block and {leaf} weight or bias."""

    name: str
    modules: Mapping[str, str]
    gelu: Gelu = "erf"
    layer_norm_eps: float = 1e-6
    interpolation: str = "bicubic"
    flax: bool = False  # kernels are HWIO and [in, out], and a norm's weight is its scale

    @cached_property
    def _token_mixing(self) -> re.Pattern[str]:
        """What tells a Mixer of this layout from everything else: its token-mixing weights."""
        dense = [self._escaped(self.modules[module]) for module in BLOCK if module.startswith("token_mixing")]
        return re.compile("|".join(dense))

    @cached_property
    def _block(self) -> re.Pattern[str]:
        return re.compile("|".join(self._escaped(self.modules[module]) for module in BLOCK))

    @staticmethod
    def _escaped(template: str) -> str:
        return re.escape(template).replace(r"\{i\}", r"(\d{1,4})").replace(r"\{leaf\}", r"\w+") + "$"

    def recognises(self, names: Iterable[str]) -> bool:
        """Whether any of these names is a token-mixing weight of this layout."""
        return any(self._token_mixing.match(name) for name in names)

    def their_names(self, names: Iterable[str]) -> dict[str, str]:
        """Our name -> theirs of every weight that a complete Mixer has, as deep as these names say it is.

        The head is left out where `names` have none. Raises CheckpointError if blocks are missing.
        """
        found = {int(i) for name in names if (match := self._block.match(name)) for i in match.groups() if i}
        if gap := sorted(set(range(max(found) + 1)) - found):
            raise CheckpointError(f"blocks {', '.join(map(str, gap[:5]))} of {max(found) + 1} are missing")
        theirs = {ours: name for module in BODY for ours, name in self._leaves(module)}
        theirs |= {ours: name for i in sorted(found) for module in BLOCK for ours, name in self._leaves(module, i)}
        head = dict(self._leaves("head"))
        return theirs | (head if set(head.values()) & set(names) else {})

    def _leaves(self, module: str, block: int | None = None) -> list[tuple[str, str]]:
        prefix = "" if block is None else f"blocks.{block}."
        weight = "weight" if not self.flax else "scale" if "norm" in module else "kernel"
        template = self.modules[module]
        return [
            (f"{prefix}{module}.weight", template.format(i=block, leaf=weight)),
            (f"{prefix}{module}.bias", template.format(i=block, leaf="bias")),
        ]

    def oriented(self, ours: str, tensor: Tensor) -> Tensor:
        """Their tensor as ours, without copying."""
        if not self.flax:
            return tensor
        if "_mixing." in ours:
            tensor = tensor.squeeze()  # the older Flax layout keeps an axis of one
        if tensor.ndim == 4:
            return tensor.permute(3, 2, 0, 1)  # HWIO -> OIHW
        return tensor.T if tensor.ndim == 2 else tensor
