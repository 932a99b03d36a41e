"""MLP-Mixer in the paper's words: MlpBlock, MixerBlock, MlpMixer (Tolstikhin et al. 2021, section 2 and appendix E)."""

import torch
from torch import Tensor, nn

from model_export.variants import Gelu, MixerConfig


class MlpBlock(nn.Module):
    """Two dense layers with a GELU between them, over the last axis: [..., features] -> [..., features]."""

    def __init__(self, features: int, hidden: int, gelu: Gelu, dropout: float) -> None:
        super().__init__()
        self.dense_0 = nn.Linear(features, hidden)
        self.gelu = nn.GELU(approximate="tanh" if gelu == "tanh" else "none")
        self.dense_1 = nn.Linear(hidden, features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map each vector on its own."""
        x = self.dropout(self.gelu(self.dense_0(x)))
        x = self.dropout(self.dense_1(x))
        return x


class StochasticDepth(nn.Module):
    """While training, drops a residual branch for whole images with probability `rate` (Huang et al. 2016)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """[N, S, C] -> [N, S, C], scaled so that the expectation is unchanged."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = torch.rand(branch.shape[0], 1, 1, device=branch.device) >= self.rate
        return branch * keep / (1.0 - self.rate)


class MixerBlock(nn.Module):
    """Token mixing, then channel mixing, each with a pre-LayerNorm and a skip connection: [N, S, C] -> [N, S, C]."""

    def __init__(self, config: MixerConfig, dropout: float, stochastic_depth: float) -> None:
        super().__init__()
        self.layer_norm_0 = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.token_mixing = MlpBlock(config.tokens, config.tokens_hidden, config.gelu, dropout)
        self.layer_norm_1 = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.channel_mixing = MlpBlock(config.hidden, config.channels_hidden, config.gelu, dropout)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        """Mix across tokens (columns of the [S, C] table), then across channels (its rows)."""
        tokens = self.token_mixing(self.layer_norm_0(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.stochastic_depth(tokens)
        x = x + self.stochastic_depth(self.channel_mixing(self.layer_norm_1(x)))
        return x


class MlpMixer(nn.Module):
    """Normalised images [N, 3, H, W] -> logits [N, classes]; H and W are fixed by the configuration.

    Without classes there is no head, and the answer is the pooled features [N, C].

    `dropout` and `stochastic_depth` act only while training; the latter grows linearly from 0 in the first block
    to its full value in the last (appendix B of the paper).
    """

    def __init__(self, config: MixerConfig, dropout: float = 0.0, stochastic_depth: float = 0.0) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(3, config.hidden, kernel_size=config.patch, stride=config.patch)
        rates = [stochastic_depth * i / max(1, config.layers - 1) for i in range(config.layers)]
        self.blocks = nn.ModuleList(MixerBlock(config, dropout, rate) for rate in rates)
        self.pre_head_layer_norm = nn.LayerNorm(config.hidden, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden, config.classes) if config.classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Per-patch embedding, the Mixer blocks, global average pooling, linear head."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def features(self, images: Tensor) -> Tensor:
        """All but the head: [N, 3, H, W] -> the pooled representation [N, C]."""
        x = self.stem(images)  # [N, C, H/P, W/P]
        x = x.flatten(2).transpose(1, 2)  # [N, S, C]
        for block in self.blocks:
            x = block(x)
        x = self.pre_head_layer_norm(x)
        pooled: Tensor = x.mean(dim=1)
        return pooled
