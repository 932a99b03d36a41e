"""The units of a Mixer's first layers as small pictures, ordered as in the paper's figures (sections 3.6 and E)."""

import numpy as np
import numpy.typing as npt

from model_export.checkpoints.checkpoint import Checkpoint

FloatArray = npt.NDArray[np.float64]


def token_mixing_units(checkpoint: Checkpoint, block: int) -> FloatArray:
    """Hidden units of a block's token-mixing MLP, [D_S, H/P, W/P]: a weight for each of the image's patches.

    As in the paper's figure, units of opposing phase are paired and the pairs sorted by frequency. Raises ValueError
    if there is no such block.
    """
    if not 0 <= block < checkpoint.config.layers:
        raise ValueError(f"there is no block {block}; the blocks are 0 to {checkpoint.config.layers - 1}")
    side = checkpoint.config.image_size // checkpoint.config.patch
    weights = checkpoint.state[f"blocks.{block}.token_mixing.dense_0.weight"].double().numpy()
    units = weights.reshape(-1, side, side)
    pairs = pair_opposites(units)
    pairs.sort(key=lambda pair: sum(frequency(units[i]) for i in pair) / len(pair))
    return units[[i for pair in pairs for i in pair]]


def patch_embedding_units(checkpoint: Checkpoint) -> FloatArray:
    """The stem's filters as pictures, [C, P, P, 3] in 0..1 around mid-gray, sorted by frequency."""
    filters = checkpoint.state["stem.weight"].double().permute(0, 2, 3, 1).numpy()
    order = np.argsort([frequency(unit.mean(axis=2)) for unit in filters], kind="stable")
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    pictures: FloatArray = 0.5 + filters / np.where(largest > 0, 2 * largest, 1)
    return pictures[order]


def pair_opposites(units: FloatArray) -> list[tuple[int, ...]]:
    """Match units [N, h, w] greedily, the most negatively correlated first; an odd one out stays alone."""
    flat = units.reshape(len(units), -1)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    correlation = (flat @ flat.T) / np.maximum(norms @ norms.T, np.finfo(float).tiny)
    free, pairs = set(range(len(units))), []
    rows, columns = np.triu_indices(len(units), k=1)
    for best in np.argsort(correlation[rows, columns], kind="stable"):
        i, j = int(rows[best]), int(columns[best])
        if i in free and j in free:
            pairs.append((i, j))
            free -= {i, j}
    return [*pairs, *((i,) for i in sorted(free))]


def frequency(unit: FloatArray) -> float:
    """Mean spatial frequency of a unit [h, w], cycles per weight, weighted by power; the mean level does not count."""
    power = np.abs(np.fft.fft2(unit - unit.mean())) ** 2
    cycles = np.hypot(np.fft.fftfreq(unit.shape[0])[:, None], np.fft.fftfreq(unit.shape[1])[None])
    total = power.sum()
    return float((power * cycles).sum() / total) if total > 0 else 0.0
