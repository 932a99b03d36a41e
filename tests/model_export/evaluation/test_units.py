from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_export.__main__ import main
from model_export.checkpoints.checkpoint import read_checkpoint
from model_export.evaluation.units import frequency, pair_opposites, patch_embedding_units, token_mixing_units


def waves(*cycles: int) -> np.ndarray:
    """Horizontal cosines [N, 8, 8] of so many cycles over the picture."""
    x = np.arange(8) / 8
    return np.stack([np.tile(np.cos(2 * np.pi * n * x), (8, 1)) for n in cycles])


def test_frequency_orders_waves_and_ignores_the_level() -> None:
    slow, middle, fast = waves(1, 2, 4)
    assert frequency(slow) < frequency(middle) < frequency(fast)
    assert frequency(slow + 7) == pytest.approx(frequency(slow))
    assert frequency(slow) == pytest.approx(1 / 8)
    assert frequency(np.ones((4, 4))) == 0


def test_opposite_phases_are_paired() -> None:
    a, b = waves(1, 3)
    assert sorted(sorted(pair) for pair in pair_opposites(np.stack([a, b, -a, -b]))) == [[0, 2], [1, 3]]
    assert pair_opposites(np.stack([a, b, -a]))[-1] == (1,)


def test_units_of_a_checkpoint_are_pairs_by_frequency(tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    fast, slow = np.tile([1.0, -1, 1, -1], (4, 1)), np.tile([1.0, 1, -1, -1], (4, 1))
    units = np.stack([fast, slow, -fast, -slow, fast, slow, -fast, -slow]).reshape(8, 16)
    checkpoint.state["blocks.1.token_mixing.dense_0.weight"] = torch.from_numpy(units)
    drawn = token_mixing_units(checkpoint, 1)
    assert drawn.shape == (8, 4, 4)
    assert [frequency(unit) for unit in drawn] == sorted(frequency(unit) for unit in drawn)
    assert all(np.array_equal(drawn[i], -drawn[i + 1]) for i in range(0, 8, 2))
    pictures = patch_embedding_units(checkpoint)
    assert pictures.shape == (16, 4, 4, 3)
    assert 0 <= pictures.min() < pictures.max() <= 1


def test_visualize_draws_a_picture_and_refuses_a_block_that_is_not_there(tiny_checkpoint: Path, tmp_path: Path) -> None:
    main(["visualize", str(tiny_checkpoint), "--out", str(tmp_path / "units.png")])
    with Image.open(tmp_path / "units.png") as picture:
        assert picture.width > picture.height > 100
        assert len(set(picture.convert("RGB").get_flattened_data())) > 20
    with pytest.raises(SystemExit, match="no block 2; the blocks are 0 to 1"):
        main(["visualize", str(tiny_checkpoint), "--out", str(tmp_path / "none.png"), "--blocks", "0,2"])
    assert not (tmp_path / "none.png").exists()
