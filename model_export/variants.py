"""The Mixer's dimensions as data: Table 1 of the paper, and what follows from them by arithmetic."""

from dataclasses import dataclass
from typing import Literal

Gelu = Literal["erf", "tanh"]


@dataclass(frozen=True, slots=True)
class MixerConfig:
    """Dimensions of one MLP-Mixer, named as in Table 1 of Tolstikhin et al. 2021 (arXiv:2105.01601)."""

    patch: int  # P: side of a square patch, pixels
    hidden: int  # C: channels of a token
    tokens_hidden: int  # D_S: width of the token-mixing MLP
    channels_hidden: int  # D_C: width of the channel-mixing MLP
    layers: int  # number of MixerBlocks
    image_size: int  # side of the square input, pixels
    classes: int  # 0: headless, the answer is the pooled features
    # The two numerics that differ between frameworks for the same weights.
    gelu: Gelu = "erf"  # "erf" (exact; torch, timm) or "tanh" (Flax's default)
    layer_norm_eps: float = 1e-6  # 1e-6 in Flax and timm, 1e-5 in mmpretrain

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ValueError(f"image size {self.image_size} is not a multiple of the patch {self.patch}")
        if not (isinstance(self.layer_norm_eps, int | float) and self.layer_norm_eps > 0):
            raise ValueError(f"the LayerNorm eps is {self.layer_norm_eps!r}; it must be a positive number")
        if self.gelu not in ("erf", "tanh"):
            raise ValueError(f"gelu is {self.gelu!r}; it must be 'erf' or 'tanh'")

    @property
    def tokens(self) -> int:
        """S: patches in an image."""
        return (self.image_size // self.patch) ** 2

    @property
    def parameters(self) -> int:
        """Trainable scalars, head included."""
        stem = 3 * self.patch**2 * self.hidden + self.hidden
        token_mixing = 2 * self.tokens * self.tokens_hidden + self.tokens_hidden + self.tokens
        channel_mixing = 2 * self.hidden * self.channels_hidden + self.channels_hidden + self.hidden
        layer_norm = 2 * self.hidden
        head = self.hidden * self.classes + self.classes  # none without classes
        return stem + self.layers * (2 * layer_norm + token_mixing + channel_mixing) + layer_norm + head

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image in the stem, the MLPs and the head (FLOPs are twice this)."""
        stem = self.tokens * 3 * self.patch**2 * self.hidden
        token_mixing = 2 * self.hidden * self.tokens * self.tokens_hidden
        channel_mixing = 2 * self.tokens * self.hidden * self.channels_hidden
        return stem + self.layers * (token_mixing + channel_mixing) + self.hidden * self.classes

    @property
    def variant(self) -> str:
        """The row of VARIANTS with these widths and depth, for example "B/16"; "custom/P" where there is none."""
        for name, row in VARIANTS.items():
            if row[:5] == (self.patch, self.hidden, self.tokens_hidden, self.channels_hidden, self.layers):
                return name
        return f"custom/{self.patch}"


# name: patch, hidden, tokens_hidden, channels_hidden, layers, image_size
VARIANTS = {
    "S/32": (32, 512, 256, 2048, 8, 224),
    "S/16": (16, 512, 256, 2048, 8, 224),
    "B/32": (32, 768, 384, 3072, 12, 224),
    "B/16": (16, 768, 384, 3072, 12, 224),
    "L/32": (32, 1024, 512, 4096, 24, 224),
    "L/16": (16, 1024, 512, 4096, 24, 224),
    "H/14": (14, 1280, 640, 5120, 32, 224),
    # Not in the paper, but published by Google with the others' GSAM weights.
    "S/8": (8, 512, 256, 2048, 8, 224),
    # Ours: XS/4 is the embedded digits model, tiny/4 lets a test run in milliseconds.
    "XS/4": (4, 128, 64, 256, 4, 32),
    "tiny/4": (4, 16, 8, 32, 2, 16),
}


def config_of(variant: str, classes: int, gelu: Gelu = "erf", layer_norm_eps: float = 1e-6) -> MixerConfig:
    """The configuration of a variant by name; raises ValueError naming the known ones."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(VARIANTS)}")
    patch, hidden, tokens_hidden, channels_hidden, layers, image_size = VARIANTS[variant]
    return MixerConfig(patch, hidden, tokens_hidden, channels_hidden, layers, image_size, classes, gelu, layer_norm_eps)
