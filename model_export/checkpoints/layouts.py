"""The layouts in which Mixers are published, and how to tell them from each other and from their relatives."""

import re

from model_export.checkpoints.layout import BLOCK, Layout
from model_export.checkpoints.tensor_file import CheckpointError, Tensors


def _blocks(prefix: str, norms: tuple[str, str], tokens: tuple[str, str], channels: tuple[str, str]) -> dict[str, str]:
    return {module: prefix + name for module, name in zip(BLOCK, (*norms, *tokens, *channels), strict=True)}


def _torch(stem: str, norm: str, head: str, blocks: dict[str, str]) -> dict[str, str]:
    modules = {"stem": stem, "pre_head_layer_norm": norm, "head": head} | blocks
    return {module: name + ".{leaf}" for module, name in modules.items()}


OURS = Layout("mixer", _torch("stem", "pre_head_layer_norm", "head", {name: f"blocks.{{i}}.{name}" for name in BLOCK}))
LAYOUTS = (
    OURS,
    Layout(
        "google",  # google-research/vision_transformer, vit_jax/models_mixer.py
        {"stem": "stem/{leaf}", "pre_head_layer_norm": "pre_head_layer_norm/{leaf}", "head": "head/{leaf}"}
        | _blocks(
            "MixerBlock_{i}/",
            ("LayerNorm_0/{leaf}", "LayerNorm_1/{leaf}"),
            ("token_mixing/Dense_0/{leaf}", "token_mixing/Dense_1/{leaf}"),
            ("channel_mixing/Dense_0/{leaf}", "channel_mixing/Dense_1/{leaf}"),
        ),
        gelu="tanh",  # flax.linen.gelu approximates by default
        # big_vision evaluates with resize_small(256), central_crop(224). It resizes by area, to which Pillow's
        # antialiased bilinear is the nearest that bundles offer.
        interpolation="bilinear",
        flax=True,
    ),
    Layout(
        "google-encoderblock",  # the names before those, converted by big_vision/models/mlp_mixer.py
        {"stem": "embedding/{leaf}", "pre_head_layer_norm": "Mixer/encoder_norm/{leaf}", "head": "head/{leaf}"}
        | _blocks(
            "Mixer/encoderblock_{i}/",
            ("LayerNorm_0/{leaf}", "LayerNorm_1/{leaf}"),
            ("token_mixing_phase_0/{leaf}1", "token_mixing_phase_0/{leaf}2"),
            ("channel_mixing_phase_0/{leaf}1", "channel_mixing_phase_0/{leaf}2"),
        ),
        gelu="tanh",
        interpolation="bilinear",
        flax=True,
    ),
    Layout(
        "timm",  # timm/models/mlp_mixer.py
        _torch(
            "stem.proj",
            "norm",
            "head",
            _blocks(
                "blocks.{i}.",
                ("norm1", "norm2"),
                ("mlp_tokens.fc1", "mlp_tokens.fc2"),
                ("mlp_channels.fc1", "mlp_channels.fc2"),
            ),
        ),
    ),
    Layout(
        "mmpretrain",  # mmpretrain/models/backbones/mlp_mixer.py; ln1 is a block's first norm and also the final one
        _torch(
            "backbone.patch_embed.projection",
            "backbone.ln1",
            "head.fc",
            _blocks(
                "backbone.layers.{i}.",
                ("ln1", "ln2"),
                ("token_mix.layers.0.0", "token_mix.layers.1"),
                ("channel_mix.layers.0.0", "channel_mix.layers.1"),
            ),
        ),
        layer_norm_eps=1e-5,  # torch's default, which mmcv keeps
    ),
    Layout(
        "jeonsworld",  # jeonsworld/MLP-Mixer-Pytorch, models/modeling.py
        _torch(
            "stem",
            "pre_head_ln",
            "head",
            _blocks(
                "layer.{i}.",
                ("pre_norm", "post_norm"),
                ("token_mlp_block.fc0", "token_mlp_block.fc1"),
                ("channel_mlp_block.fc0", "channel_mlp_block.fc1"),
            ),
        ),
        interpolation="bilinear",
    ),
)

# Relatives that share some of those names, and what gives each away.
_RELATIVES = {
    r"\.mlp_channels\.gate\.": "a gMLP, whose spatial gating unit is no Mixer's token mixing",
    r"\.linear_tokens\.|\.norm1\.alpha$": "a ResMLP, which mixes tokens with one linear layer and has no LayerNorm",
    r"^\d+\.0\.norm\.weight$": "a lucidrains/mlp-mixer-pytorch model: nested Sequentials with no published weights, "
    "and hidden widths that the paper gives to the other MLP",
    r"(^|[./])(cls_token|class_token|pos_embed|posembed_input)": "a Vision Transformer",
}


def recognise(tensors: Tensors) -> tuple[Layout, Tensors]:
    """The layout that these names are in, and the tensors, with LayerNorms numbered as Linen numbers them.

    Raises CheckpointError if there is none, by name for the Mixer's relatives.
    """
    for layout in LAYOUTS:
        if layout.recognises(tensors):
            return layout, _renumbered(tensors) if layout.flax else tensors
    for pattern, relative in _RELATIVES.items():
        if any(re.search(pattern, name) for name in tensors):
            raise CheckpointError(f"is {relative}; only MLP-Mixers are taken")
    known = ", ".join(layout.name for layout in LAYOUTS)
    held = ", ".join(sorted(tensors)[:3]) or "no tensor"
    raise CheckpointError(f"no known Mixer layout ({known}): no token-mixing weights; it holds {held}")


def _renumbered(tensors: Tensors) -> Tensors:
    """Flax before Linen numbered submodules across classes, so that a block's second norm may be LayerNorm_2 or so."""
    numbers: dict[str, set[int]] = {}
    for name in tensors:
        if norm := re.match(r"(.*/LayerNorm_)(\d+)/", name):
            numbers.setdefault(norm[1], set()).add(int(norm[2]))

    def linen(norm: re.Match[str]) -> str:
        return f"{norm[1]}{sorted(numbers[norm[1]]).index(int(norm[2]))}/"

    return {re.sub(r"^(.*/LayerNorm_)(\d+)/", linen, name): tensor for name, tensor in tensors.items()}
