import pytest
import torch
from torch import nn

from model_export.mlp_mixer import MlpMixer
from model_export.training.batches import PixelBatch
from model_export.training.gradient import accumulate_gradient, micro_batch_for
from model_export.variants import config_of
from service.bundles.manifest import Preprocessing

CPU = torch.device("cpu")
SPEC = Preprocessing(resize_short=16, interpolation="bilinear", crop=16, mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.125))


def batch(share: float) -> PixelBatch:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10, 16, 16, 3), dtype=torch.uint8, generator=generator)
    return PixelBatch(pixels, torch.arange(10) % 7, SPEC, share, classes=7)


def gradient(micro_batch: int, share: float = 1.0) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)
    model = MlpMixer(config_of("tiny/4", 7))
    loss = accumulate_gradient(model, batch(share), micro_batch, nn.CrossEntropyLoss(), CPU)
    return loss, torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def test_micro_batches_add_up_to_the_whole_batch() -> None:
    for share in (1.0, 0.7):
        loss, whole = gradient(10, share)
        for micro_batch in (1, 3, 64):
            same_loss, same = gradient(micro_batch, share)
            assert abs(loss - same_loss) < 1e-6
            torch.testing.assert_close(same, whole, atol=1e-7, rtol=1e-4)
    assert whole.norm() > 0.1


def test_gradients_of_steps_do_not_add_up() -> None:
    model = MlpMixer(config_of("tiny/4", 7))
    accumulate_gradient(model, batch(1.0), 10, nn.CrossEntropyLoss(), CPU)
    first = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    accumulate_gradient(model, batch(1.0), 10, nn.CrossEntropyLoss(), CPU)
    assert all(torch.equal(old, new.grad) for old, new in zip(first, model.parameters(), strict=True))  # type: ignore[arg-type]


def test_bfloat16_moves_the_gradient_a_little() -> None:
    _, exact = gradient(10)
    torch.manual_seed(0)
    model = MlpMixer(config_of("tiny/4", 7))
    accumulate_gradient(model, batch(1.0), 10, nn.CrossEntropyLoss(), CPU, bf16=True)
    near = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    assert near.dtype == torch.float32
    assert 0 < (near - exact).norm() / exact.norm() < 0.05


def test_an_image_is_mixed_with_the_one_before() -> None:
    whole, mixed = batch(1.0), batch(0.75)
    images, classes = whole.part(0, 10, CPU)
    blends, targets = mixed.part(2, 4, CPU)
    torch.testing.assert_close(blends, 0.75 * images[2:4] + 0.25 * images[1:3])
    assert targets.tolist()[0] == [0, 0.25, 0.75, 0, 0, 0, 0]
    first, _ = mixed.part(0, 1, CPU)
    torch.testing.assert_close(first[0], 0.75 * images[0] + 0.25 * images[9])
    assert classes.tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]


def test_images_are_normalised_channel_by_channel() -> None:
    pixels = torch.tensor([255, 51, 0], dtype=torch.uint8).expand(1, 16, 16, 3)
    images, _ = PixelBatch(pixels, torch.tensor([0]), SPEC).part(0, 1, CPU)
    assert images[0, :, 5, 5].tolist() == pytest.approx([1.0, -0.8, -2.4])


def test_larger_models_take_fewer_images_at_a_time() -> None:
    sizes = [micro_batch_for(config_of(variant, 1000), CPU) for variant in ("XS/4", "S/32", "B/16", "L/16", "H/14")]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 512 > 32 > sizes[2] >= 8
    assert sizes[-1] >= 1
