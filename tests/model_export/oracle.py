"""A Mixer written out in numpy from the paper's equations, on timm's key names: shares no code with model_export."""

import math

import numpy as np

Arrays = dict[str, np.ndarray]

erf = np.vectorize(math.erf)


def gelu(x: np.ndarray, form: str) -> np.ndarray:
    if form == "erf":
        return x * 0.5 * (1 + erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def layer_norm(x: np.ndarray, weights: Arrays, name: str, eps: float) -> np.ndarray:
    normalised = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return normalised * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def mlp(x: np.ndarray, weights: Arrays, name: str, form: str) -> np.ndarray:
    hidden = gelu(x @ weights[f"{name}.fc1.weight"].T + weights[f"{name}.fc1.bias"], form)
    return hidden @ weights[f"{name}.fc2.weight"].T + weights[f"{name}.fc2.bias"]


def forward(
    weights: Arrays, pixels: np.ndarray, mean: float, std: float, form: str = "erf", eps: float = 1e-6
) -> np.ndarray:
    """One image, uint8 [H, W, 3] -> logits, in float64; `weights` under timm's names."""
    weights = {name: array.astype(np.float64) for name, array in weights.items()}
    kernel = weights["stem.proj.weight"]  # [C, 3, P, P]
    patch = kernel.shape[2]
    image = (pixels / 255 - mean) / std
    tokens = []
    for top in range(0, image.shape[0], patch):
        for left in range(0, image.shape[1], patch):
            window = image[top : top + patch, left : left + patch]  # [P, P, 3]
            tokens.append(np.einsum("chij,ijh->c", kernel, window) + weights["stem.proj.bias"])
    x = np.stack(tokens)  # [S, C]
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
    for i in range(layers):
        block = f"blocks.{i}"
        x = x + mlp(layer_norm(x, weights, f"{block}.norm1", eps).T, weights, f"{block}.mlp_tokens", form).T
        x = x + mlp(layer_norm(x, weights, f"{block}.norm2", eps), weights, f"{block}.mlp_channels", form)
    x = layer_norm(x, weights, "norm", eps).mean(axis=0)
    return weights["head.weight"] @ x + weights["head.bias"]


def random_timm_weights(seed: int = 0, classes: int = 7) -> Arrays:
    """A Mixer with patch 4, 16 pixels, C 16, D_S 8, D_C 32, 2 layers, under timm's names; every tensor is random."""
    patch, hidden, tokens, tokens_hidden, channels_hidden = 4, 16, 16, 8, 32
    shapes = {"stem.proj.weight": (hidden, 3, patch, patch), "stem.proj.bias": (hidden,)}
    for i in range(2):
        shapes |= {
            f"blocks.{i}.norm1.weight": (hidden,),
            f"blocks.{i}.norm1.bias": (hidden,),
            f"blocks.{i}.mlp_tokens.fc1.weight": (tokens_hidden, tokens),
            f"blocks.{i}.mlp_tokens.fc1.bias": (tokens_hidden,),
            f"blocks.{i}.mlp_tokens.fc2.weight": (tokens, tokens_hidden),
            f"blocks.{i}.mlp_tokens.fc2.bias": (tokens,),
            f"blocks.{i}.norm2.weight": (hidden,),
            f"blocks.{i}.norm2.bias": (hidden,),
            f"blocks.{i}.mlp_channels.fc1.weight": (channels_hidden, hidden),
            f"blocks.{i}.mlp_channels.fc1.bias": (channels_hidden,),
            f"blocks.{i}.mlp_channels.fc2.weight": (hidden, channels_hidden),
            f"blocks.{i}.mlp_channels.fc2.bias": (hidden,),
        }
    shapes |= {
        "norm.weight": (hidden,),
        "norm.bias": (hidden,),
        "head.weight": (classes, hidden),
        "head.bias": (classes,),
    }
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
