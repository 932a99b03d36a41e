import pytest
import torch

from model_export.mlp_mixer import MlpMixer, StochasticDepth
from model_export.variants import VARIANTS, config_of


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_network_has_the_parameters_that_its_configuration_counts(variant: str) -> None:
    config = config_of(variant, classes=1000)
    with torch.device("meta"):
        model = MlpMixer(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.parameters


def test_shapes() -> None:
    model = MlpMixer(config_of("tiny/4", classes=7))
    assert model(torch.zeros(5, 3, 16, 16)).shape == (5, 7)


def test_with_silent_mlps_only_the_skip_connections_are_left() -> None:
    """Blocks whose MLPs answer zero are the identity, so the logits are those of the mean patch embedding."""
    model = MlpMixer(config_of("tiny/4", classes=7)).eval()
    for name, parameter in model.named_parameters():
        if "dense_1" in name:
            torch.nn.init.zeros_(parameter)
    images = torch.randn(2, 3, 16, 16)
    tokens = model.stem(images).flatten(2).transpose(1, 2)
    expected = model.head(model.pre_head_layer_norm(tokens).mean(dim=1))
    torch.testing.assert_close(model(images), expected)


def test_token_mixing_sees_positions_and_channel_mixing_does_not() -> None:
    """Exchanging two patches changes the answer; without token mixing it does not."""
    torch.manual_seed(0)
    model = MlpMixer(config_of("tiny/4", classes=7)).eval()
    images = torch.randn(1, 3, 16, 16)
    exchanged = images.clone()
    exchanged[..., 0:4, 0:4], exchanged[..., 8:12, 8:12] = images[..., 8:12, 8:12], images[..., 0:4, 0:4]
    assert not torch.allclose(model(images), model(exchanged), atol=1e-4)
    for name, parameter in model.named_parameters():
        if "token_mixing.dense_1" in name:
            torch.nn.init.zeros_(parameter)
    torch.testing.assert_close(model(images), model(exchanged))


def test_dropout_and_stochastic_depth_act_only_while_training() -> None:
    torch.manual_seed(0)
    model = MlpMixer(config_of("tiny/4", classes=7), dropout=0.5, stochastic_depth=0.5)
    images = torch.randn(4, 3, 16, 16)
    assert not torch.equal(model.train()(images), model(images))
    assert torch.equal(model.eval()(images), model(images))


def test_stochastic_depth_drops_whole_images_and_keeps_the_expectation() -> None:
    torch.manual_seed(0)
    branch = StochasticDepth(0.25).train()(torch.ones(10_000, 2, 3))
    per_image = branch[:, 0, 0]
    assert torch.equal(branch, per_image.view(-1, 1, 1).expand_as(branch))
    torch.testing.assert_close(per_image.unique(), torch.tensor([0.0, 4 / 3]))
    assert per_image.mean() == pytest.approx(1, abs=0.03)


def test_without_classes_the_answer_is_the_pooled_features() -> None:
    config = config_of("tiny/4", classes=0)
    model = MlpMixer(config)
    assert model(torch.zeros(5, 3, 16, 16)).shape == (5, 16)
    assert sum(parameter.numel() for parameter in model.parameters()) == config.parameters
