import torch

from model_export.training.initialise import lecun_normal
from model_export.training.start import starting_checkpoint


def test_weights_are_drawn_as_flax_draws_them() -> None:
    start = starting_checkpoint("S/16", 1000, seed=0, gelu="tanh")
    state = lecun_normal(start, seed=1).state
    assert state.keys() == start.state.keys()
    for name, tensor in state.items():
        if name.endswith("bias") or name == "head.weight":
            assert not tensor.any()
        elif tensor.ndim == 1:
            assert (tensor == 1).all()
        else:
            inputs = tensor[0].numel()
            assert abs(tensor.std().item() * inputs**0.5 - 1) < 0.02, name  # variance 1 / inputs
            assert tensor.abs().max().item() <= 2.28 * inputs**-0.5, name  # two deviations before the cut
    assert torch.equal(state["stem.weight"], lecun_normal(start, seed=1).state["stem.weight"])
    assert not torch.equal(state["stem.weight"], lecun_normal(start, seed=2).state["stem.weight"])
    assert start.config.gelu == "tanh"
