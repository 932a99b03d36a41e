import torch

from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import PixelBatch
from model_export.training.loss import Loss
from model_export.training.precision import bf16_speedup, worth_it
from model_export.training.recipes import PAPER
from model_export.variants import config_of
from service.bundles.manifest import Preprocessing


def first_batch(side: int, images: int) -> PixelBatch:
    half = (0.5, 0.5, 0.5)
    spec = Preprocessing(resize_short=side, interpolation="bilinear", crop=side, mean=half, std=half)
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8)
    return PixelBatch(pixels, torch.arange(images) % 3, spec)


def test_measuring_leaves_the_weights_as_they_are() -> None:
    model = MlpMixer(config_of("S/32", 3))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert bf16_speedup(model, first_batch(224, 4), 2, Loss(PAPER)) > 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_too_small_to_tell_stays_in_float32() -> None:
    speedup = bf16_speedup(MlpMixer(config_of("tiny/4", 3)), first_batch(16, 64), 64, Loss(PAPER))
    assert not worth_it(speedup)
    assert worth_it(2.4)
