"""A grown Mixer gives an image that repeats the logits of the image that is repeated (appendix C of the paper)."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from model_export.checkpoints.checkpoint import Checkpoint, CheckpointError, read_checkpoint, write_checkpoint
from model_export.training.grow import grow
from model_export.training.start import starting_checkpoint
from tests.model_export import oracle, published

DEFAULT = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1" / "model.onnx"


def random_checkpoint(variant: str, classes: int = 7) -> Checkpoint:
    """Biases too are random, so that one in the wrong place shows."""
    checkpoint = starting_checkpoint(variant, classes, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {name: torch.randn(t.shape, generator=generator) * 0.2 for name, t in checkpoint.state.items()}
    return Checkpoint(checkpoint.config, state, checkpoint.preprocessing, "mixer")


@torch.no_grad()
def assert_tiling_keeps_logits(checkpoint: Checkpoint, images: torch.Tensor, factor: int) -> None:
    small = checkpoint.model()(images)
    grown = grow(checkpoint, factor * checkpoint.config.image_size)
    large = grown.model()(images.repeat(1, 1, factor, factor))
    assert small.std() > 0.1
    assert (large - small).abs().max() <= 1e-4


@pytest.mark.parametrize(("variant", "factor"), [("XS/4", 2), ("tiny/4", 2), ("tiny/4", 3)])
def test_a_tiled_image_keeps_its_logits(variant: str, factor: int) -> None:
    checkpoint = random_checkpoint(variant)
    size = checkpoint.config.image_size
    images = torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(2))
    assert_tiling_keeps_logits(checkpoint, images, factor)


def test_parts_do_not_mix_before_training() -> None:
    """Each quarter of a 2x2 image is seen alone: features are the mean of the quarters' features."""
    checkpoint = random_checkpoint("tiny/4").with_new_head(0)
    quarters = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    top, bottom = torch.cat([quarters[0], quarters[1]], dim=2), torch.cat([quarters[2], quarters[3]], dim=2)
    image = torch.cat([top, bottom], dim=1)[None]
    with torch.no_grad():
        expected = checkpoint.model()(quarters).mean(dim=0)
        found = grow(checkpoint, 32).model()(image)[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_grown_checkpoint_is_written_and_read(tmp_path: Path) -> None:
    checkpoint = random_checkpoint("tiny/4")
    grown = grow(checkpoint, 32)
    write_checkpoint(tmp_path / "grown.safetensors", grown)
    again = read_checkpoint(tmp_path / "grown.safetensors")
    assert (again.config.image_size, again.config.tokens_hidden) == (32, 4 * checkpoint.config.tokens_hidden)
    assert (again.preprocessing.crop, again.preprocessing.resize_short) == (32, 2 * 18)
    assert all(torch.equal(again.state[name], grown.state[name]) for name in grown.state)


def test_growing_to_the_same_size_changes_nothing() -> None:
    checkpoint = random_checkpoint("tiny/4")
    assert grow(checkpoint, 16) is checkpoint


@pytest.mark.parametrize("image_size", [8, 24, 0])
def test_only_integer_multiples_are_grown_to(image_size: int) -> None:
    with pytest.raises(CheckpointError, match=f"image size {image_size} is no integer multiple of the 16"):
        grow(random_checkpoint("tiny/4"), image_size)


@pytest.mark.parametrize("layout", [published.google, published.google_encoderblock])
def test_a_mixer_read_from_flax_grows_too(tmp_path: Path, layout: Callable[[oracle.Arrays], oracle.Arrays]) -> None:
    np.savez(tmp_path / "model.npz", **layout(oracle.random_timm_weights()))
    checkpoint = read_checkpoint(tmp_path / "model.npz")
    assert_tiling_keeps_logits(checkpoint, torch.randn(2, 3, 16, 16), factor=2)
