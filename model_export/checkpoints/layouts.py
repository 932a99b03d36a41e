"""The layouts in which Mixers are published, and how to tell them from each other and from their relatives."""

import math
import re
from dataclasses import dataclass

from torch import Tensor

from model_export.checkpoints.layout import BLOCK, Layout, as_flax_has_it
from model_export.checkpoints.tensor_file import CheckpointError, Tensors
from model_export.checkpoints.wrappers import prefix_of_one, under, without_inner_wrappers


def _blocks(prefix: str, norms: tuple[str, str], tokens: tuple[str, str], channels: tuple[str, str]) -> dict[str, str]:
    return {module: prefix + name for module, name in zip(BLOCK, (*norms, *tokens, *channels), strict=True)}


def _as_lucidrains_has_it(ours: str, tensor: Tensor) -> Tensor:
    """The stem is a linear layer over patches, channels last; token mixing is convolutions of one value."""
    if ours == "stem.weight" and tensor.ndim == 2:
        hidden, values = tensor.shape
        patch = math.isqrt(values // 3)
        if 3 * patch * patch != values:
            raise CheckpointError(f"its patches have {values} values, which are no square of RGB; only RGB is served")
        return tensor.reshape(hidden, patch, patch, 3).permute(0, 3, 1, 2)
    return tensor.squeeze(-1) if tensor.ndim == 3 else tensor


def _torch(stem: str, norm: str, head: str, blocks: dict[str, str]) -> dict[str, str]:
    modules = {"stem": stem, "pre_head_layer_norm": norm, "head": head} | blocks
    return {module: name + ".{leaf}" for module, name in modules.items()}


def _mmpretrain(backbone: str, head: str) -> Layout:
    """mmpretrain/models/backbones/mlp_mixer.py; ln1 is a block's first norm and also the final one."""
    blocks = _blocks(
        f"{backbone}layers.{{i}}.",
        ("ln1", "ln2"),
        ("token_mix.layers.0.0", "token_mix.layers.1"),
        ("channel_mix.layers.0.0", "channel_mix.layers.1"),
    )
    modules = _torch(f"{backbone}patch_embed.projection", f"{backbone}ln1", head, blocks)
    return Layout("mmpretrain", modules, layer_norm_eps=1e-5)  # torch's default, which mmcv keeps


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
        oriented=as_flax_has_it,
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
        oriented=as_flax_has_it,
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
    _mmpretrain("backbone.", "head.fc"),
    _mmpretrain("", "fc"),  # the backbone alone
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
    Layout(
        "lucidrains",  # lucidrains/mlp-mixer-pytorch: Sequentials, so that a name is a number
        _torch(
            "1",
            "{end+0}",
            "{end+2}",
            _blocks("{i}.", ("0.norm", "1.norm"), ("0.fn.0", "0.fn.3"), ("1.fn.0", "1.fn.3")),
        ),
        layer_norm_eps=1e-5,
        interpolation="bilinear",
        oriented=_as_lucidrains_has_it,
        first_block=2,
        evaluated=False,
    ),
    Layout(
        "rishikksh20",  # rishikksh20/MLP-Mixer-pytorch, mlp-mixer.py
        _torch(
            "to_patch_embedding.0",
            "layer_norm",
            "mlp_head.0",
            _blocks(
                "mixer_blocks.{i}.",
                ("token_mix.0", "channel_mix.0"),
                ("token_mix.2.net.0", "token_mix.2.net.3"),
                ("channel_mix.1.net.0", "channel_mix.1.net.3"),
            ),
        ),
        layer_norm_eps=1e-5,
        interpolation="bilinear",
        evaluated=False,
    ),
)

# Relatives that share some of those names, and what gives each away.
_RELATIVES = {
    r"\.mlp_channels\.gate\.": "a gMLP, whose spatial gating unit is no Mixer's token mixing",
    r"\.linear_tokens\.|\.norm1\.alpha$": "a ResMLP, which mixes tokens with one linear layer and has no LayerNorm",
    r"(^|\.)\d+\.0\.fn\.0\.fns\.": "a Permutator (ViP), which mixes rows and columns apart",
    r"(^|[./])(cls_token|class_token|pos_embed|posembed_input)": "a Vision Transformer",
}


@dataclass(frozen=True)
class Recognised:
    """A Mixer's tensors without what wrappers put before their names, and those that lie beside it."""

    layout: Layout
    tensors: Tensors
    beside: Tensors


def recognise(tensors: Tensors) -> Recognised:
    """The Mixer among these tensors, with LayerNorms numbered as Linen numbers them.

    Raises CheckpointError if there is none, by name for the Mixer's relatives, or if there are several.
    """
    tensors = without_inner_wrappers(tensors)
    for layout in LAYOUTS:
        if prefixes := layout.prefixes(tensors):
            prefix = prefix_of_one(prefixes, tensors)
            found = under(prefix, tensors)
            beside = {name: tensor for name, tensor in tensors.items() if not name.startswith(prefix)}
            return Recognised(layout, _renumbered(found) if layout.flax else found, beside)
    for pattern, relative in _RELATIVES.items():
        if any(re.search(pattern, name) for name in tensors):
            raise CheckpointError(f"is {relative}; only MLP-Mixers are taken")
    known = ", ".join(dict.fromkeys(layout.name for layout in LAYOUTS))
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
