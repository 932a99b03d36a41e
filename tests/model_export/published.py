"""One Mixer as each framework would have saved it, written out from their sources: shares no code with model_export.

All start from the weights under timm's names in `oracle.py`.
"""

from collections.abc import Callable

import numpy as np

from tests.model_export.oracle import Arrays


def depth(timm: Arrays) -> int:
    return sum(name.endswith("mlp_tokens.fc1.weight") for name in timm)


def google(timm: Arrays, second_norm: str = "LayerNorm_1") -> Arrays:
    """google-research/vision_transformer: kernels [in, out], stem HWIO."""
    npz = {
        "stem/kernel": timm["stem.proj.weight"].transpose(2, 3, 1, 0),
        "stem/bias": timm["stem.proj.bias"],
        "pre_head_layer_norm/scale": timm["norm.weight"],
        "pre_head_layer_norm/bias": timm["norm.bias"],
        "head/kernel": timm["head.weight"].T,
        "head/bias": timm["head.bias"],
    }
    for i in range(depth(timm)):
        for norm, flax in (("norm1", "LayerNorm_0"), ("norm2", second_norm)):
            npz[f"MixerBlock_{i}/{flax}/scale"] = timm[f"blocks.{i}.{norm}.weight"]
            npz[f"MixerBlock_{i}/{flax}/bias"] = timm[f"blocks.{i}.{norm}.bias"]
        for mlp, flax in (("mlp_tokens", "token_mixing"), ("mlp_channels", "channel_mixing")):
            for fc, dense in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
                npz[f"MixerBlock_{i}/{flax}/{dense}/kernel"] = timm[f"blocks.{i}.{mlp}.{fc}.weight"].T
                npz[f"MixerBlock_{i}/{flax}/{dense}/bias"] = timm[f"blocks.{i}.{mlp}.{fc}.bias"]
    return npz


def google_encoderblock(timm: Arrays) -> Arrays:
    """The names before those, which big_vision's mlp_mixer.py once converted: an axis of one, norms numbered apart."""
    npz = {
        "embedding/kernel": timm["stem.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": timm["stem.proj.bias"],
        "Mixer/encoder_norm/scale": timm["norm.weight"],
        "Mixer/encoder_norm/bias": timm["norm.bias"],
        "head/kernel": timm["head.weight"].T,
        "head/bias": timm["head.bias"],
    }
    for i in range(depth(timm)):
        block = f"Mixer/encoderblock_{i}"
        for norm, flax in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            npz[f"{block}/{flax}/scale"] = timm[f"blocks.{i}.{norm}.weight"]
            npz[f"{block}/{flax}/bias"] = timm[f"blocks.{i}.{norm}.bias"]
        for mlp, flax in (("mlp_tokens", "token_mixing_phase_0"), ("mlp_channels", "channel_mixing_phase_0")):
            for n in (1, 2):
                npz[f"{block}/{flax}/kernel{n}"] = timm[f"blocks.{i}.{mlp}.fc{n}.weight"].T[None]
                npz[f"{block}/{flax}/bias{n}"] = timm[f"blocks.{i}.{mlp}.fc{n}.bias"][None]
    return npz


def mmpretrain(timm: Arrays) -> Arrays:
    """The renaming of tools/model_converters/mlpmixer_to_mmpretrain.py."""
    state = {}
    for name, array in timm.items():
        for theirs, mm in (
            ("stem.proj", "patch_embed.projection"),
            ("mlp_tokens.fc1", "token_mix.layers.0.0"),
            ("mlp_tokens.fc2", "token_mix.layers.1"),
            ("mlp_channels.fc1", "channel_mix.layers.0.0"),
            ("mlp_channels.fc2", "channel_mix.layers.1"),
            ("norm1", "ln1"),
            ("norm2", "ln2"),
            ("norm.", "ln1."),
            ("blocks", "layers"),
        ):
            name = name.replace(theirs, mm)  # noqa: PLW2901
        state["head.fc." + name[5:] if name.startswith("head.") else "backbone." + name] = array
    return state


def jeonsworld(timm: Arrays) -> Arrays:
    """models/modeling.py of jeonsworld/MLP-Mixer-Pytorch."""
    state = {f"stem.{leaf}": timm[f"stem.proj.{leaf}"] for leaf in ("weight", "bias")}
    state |= {f"pre_head_ln.{leaf}": timm[f"norm.{leaf}"] for leaf in ("weight", "bias")}
    state |= {f"head.{leaf}": timm[f"head.{leaf}"] for leaf in ("weight", "bias")}
    for i in range(depth(timm)):
        for leaf in ("weight", "bias"):
            state[f"layer.{i}.pre_norm.{leaf}"] = timm[f"blocks.{i}.norm1.{leaf}"]
            state[f"layer.{i}.post_norm.{leaf}"] = timm[f"blocks.{i}.norm2.{leaf}"]
            state[f"layer.{i}.token_mlp_block.fc0.{leaf}"] = timm[f"blocks.{i}.mlp_tokens.fc1.{leaf}"]
            state[f"layer.{i}.token_mlp_block.fc1.{leaf}"] = timm[f"blocks.{i}.mlp_tokens.fc2.{leaf}"]
            state[f"layer.{i}.channel_mlp_block.fc0.{leaf}"] = timm[f"blocks.{i}.mlp_channels.fc1.{leaf}"]
            state[f"layer.{i}.channel_mlp_block.fc1.{leaf}"] = timm[f"blocks.{i}.mlp_channels.fc2.{leaf}"]
    return state


def lucidrains(timm: Arrays) -> Arrays:
    """mlp_mixer_pytorch.MLPMixer of lucidrains/mlp-mixer-pytorch: one Sequential, patches as (row, column, channel)."""
    kernel = timm["stem.proj.weight"]
    state = {"1.weight": kernel.transpose(0, 2, 3, 1).reshape(len(kernel), -1), "1.bias": timm["stem.proj.bias"]}
    for leaf in ("weight", "bias"):
        state[f"{2 + depth(timm)}.{leaf}"] = timm[f"norm.{leaf}"]
        state[f"{4 + depth(timm)}.{leaf}"] = timm[f"head.{leaf}"]
        for i in range(depth(timm)):
            for part, norm, mlp in ((0, "norm1", "mlp_tokens"), (1, "norm2", "mlp_channels")):
                state[f"{2 + i}.{part}.norm.{leaf}"] = timm[f"blocks.{i}.{norm}.{leaf}"]
                for layer, fc in ((0, "fc1"), (3, "fc2")):
                    array = timm[f"blocks.{i}.{mlp}.{fc}.{leaf}"]
                    conv1d = part == 0 and leaf == "weight"
                    state[f"{2 + i}.{part}.fn.{layer}.{leaf}"] = array[:, :, None] if conv1d else array
    return state


def rishikksh20(timm: Arrays) -> Arrays:
    """mlp-mixer.py of rishikksh20/MLP-Mixer-pytorch."""
    state = {}
    for leaf in ("weight", "bias"):
        state[f"to_patch_embedding.0.{leaf}"] = timm[f"stem.proj.{leaf}"]
        state[f"layer_norm.{leaf}"] = timm[f"norm.{leaf}"]
        state[f"mlp_head.0.{leaf}"] = timm[f"head.{leaf}"]
        for i in range(depth(timm)):
            block, theirs = f"blocks.{i}", f"mixer_blocks.{i}"
            state[f"{theirs}.token_mix.0.{leaf}"] = timm[f"{block}.norm1.{leaf}"]
            state[f"{theirs}.token_mix.2.net.0.{leaf}"] = timm[f"{block}.mlp_tokens.fc1.{leaf}"]
            state[f"{theirs}.token_mix.2.net.3.{leaf}"] = timm[f"{block}.mlp_tokens.fc2.{leaf}"]
            state[f"{theirs}.channel_mix.0.{leaf}"] = timm[f"{block}.norm2.{leaf}"]
            state[f"{theirs}.channel_mix.1.net.0.{leaf}"] = timm[f"{block}.mlp_channels.fc1.{leaf}"]
            state[f"{theirs}.channel_mix.1.net.3.{leaf}"] = timm[f"{block}.mlp_channels.fc2.{leaf}"]
    return state


# name of the layout: its writer, the form of its GELU, its epsilon
LAYOUTS: dict[str, tuple[Callable[[Arrays], Arrays], str, float]] = {
    "google": (google, "tanh", 1e-6),
    "google-encoderblock": (google_encoderblock, "tanh", 1e-6),
    "timm": (dict, "erf", 1e-6),
    "mmpretrain": (mmpretrain, "erf", 1e-5),
    "jeonsworld": (jeonsworld, "erf", 1e-6),
    "lucidrains": (lucidrains, "erf", 1e-5),
    "rishikksh20": (rishikksh20, "erf", 1e-5),
}


def bfloat16_as_void(array: np.ndarray) -> np.ndarray:
    """What numpy makes of a JAX bfloat16 array in an .npz: two raw bytes a value (the upper half of a float32)."""
    return (np.ascontiguousarray(array, np.float32).view(np.uint32) >> 16).astype(np.uint16).view("V2")
