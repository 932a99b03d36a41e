"""Every published layout, container and wrapper is recognised by content and answers like an independent Mixer."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from model_export.bundles.reference import reference_outputs
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from service.bundles.bundle import sha256_of
from tests.model_export import oracle, published

WEIGHTS = oracle.random_timm_weights()
PIXELS = np.random.default_rng(1).integers(0, 256, (2, 16, 16, 3), np.uint8)

every_layout = pytest.mark.parametrize("layout", published.LAYOUTS)


def in_layout(layout: str, weights: oracle.Arrays = WEIGHTS) -> oracle.Arrays:
    return {name: np.ascontiguousarray(array) for name, array in published.LAYOUTS[layout][0](weights).items()}


def tensors(arrays: oracle.Arrays) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


@every_layout
@pytest.mark.parametrize("container", ["npz", "compressed npz", "safetensors", "torch", "old torch"])
def test_answers_like_an_independent_mixer(tmp_path: Path, layout: str, container: str) -> None:
    arrays, path = in_layout(layout), tmp_path / "weights"  # the name says nothing
    with path.open("wb") as file:
        if container == "npz":
            np.savez(file, **arrays)
        elif container == "compressed npz":
            np.savez_compressed(file, **arrays)
        elif container == "safetensors":
            save_file(arrays, path)
        else:
            torch.save(tensors(arrays), file, _use_new_zipfile_serialization=container == "torch")
    checkpoint = read_checkpoint(path)
    _, gelu, eps = published.LAYOUTS[layout]
    config = checkpoint.config
    assert (checkpoint.layout, config.variant, config.image_size, config.classes) == (layout, "tiny/4", 16, 7)
    assert (config.gelu, config.layer_norm_eps) == (gelu, eps)
    assert checkpoint.source is not None
    assert checkpoint.source.model_dump() == {"kind": layout, "reference": "weights", "sha256": sha256_of(path)}
    expected = np.stack([oracle.forward(WEIGHTS, image, 0.5, 0.5, gelu, eps) for image in PIXELS])
    np.testing.assert_allclose(reference_outputs(checkpoint, PIXELS)["logits"], expected, atol=1e-5)


def test_the_two_numerics_are_told_apart_by_this_oracle() -> None:
    """Else the parity above would prove nothing about them."""
    erf, tanh, other_eps = (
        oracle.forward(WEIGHTS, PIXELS[0], 0.5, 0.5, gelu, eps)
        for gelu, eps in (("erf", 1e-6), ("tanh", 1e-6), ("erf", 1e-2))
    )
    assert np.abs(erf - tanh).max() > 1e-4
    assert np.abs(erf - other_eps).max() > 1e-4


def prefixed(prefix: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def inside(key: str, **beside: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda state: {key: state} | beside


WRAPPERS = {
    "state_dict": [inside("state_dict", meta={"epoch": 3}, optimizer={"state": {0: torch.ones(2)}})],
    "model": [inside("model", lr=0.1)],
    "model_state_dict": [inside("model_state_dict", epoch=3, loss=torch.tensor(0.5))],
    "ema_model": [prefixed("module."), inside("ema_model", model={"other": torch.ones(2, 2)})],
    "student": [prefixed("student."), inside("network")],
    "net. inside a list": [prefixed("net."), lambda state: {"models": [{"step": 3}, state]}],
    "mixer. beside other modules": [prefixed("mixer."), lambda state: state | {"criterion.weight": torch.ones(7)}],
    "any key with spaces": [inside("the best so far")],
    "module.": [prefixed("module.")],
    "_orig_mod.": [prefixed("_orig_mod.")],
    "model. inside state_dict": [prefixed("model."), inside("state_dict")],
    "module._orig_mod. inside model": [prefixed("module._orig_mod."), inside("model")],
    "_orig_mod.module. inside state_dict inside model": [
        prefixed("_orig_mod.module."),
        inside("state_dict"),
        inside("model"),
    ],
}


@every_layout
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_under_any_key_in_any_order(tmp_path: Path, layout: str, wrapper: str) -> None:
    state: dict[str, Any] = tensors(in_layout(layout))
    for wrap in WRAPPERS[wrapper]:
        state = wrap(state)
    torch.save(state, tmp_path / "run.pth")
    checkpoint = read_checkpoint(tmp_path / "run.pth")
    assert checkpoint.layout == layout
    assert np.array_equal(checkpoint.state["head.weight"], WEIGHTS["head.weight"])


@pytest.mark.parametrize("inner", ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"])
def test_wrappers_inside_the_network(tmp_path: Path, inner: str) -> None:
    state = {name.replace("blocks.1.", f"blocks.1.{inner}."): tensor for name, tensor in tensors(WEIGHTS).items()}
    torch.save({"model": state}, tmp_path / "run.pth")
    assert np.array_equal(read_checkpoint(tmp_path / "run.pth").state["head.weight"], WEIGHTS["head.weight"])


def test_several_mixers_that_differ_are_not_chosen_from(tmp_path: Path) -> None:
    one, other = tensors(WEIGHTS), tensors(oracle.random_timm_weights(seed=1))
    torch.save({"student": one, "teacher": other}, tmp_path / "dino.pth")
    with pytest.raises(CheckpointError, match=r"holds several Mixers \(student, teacher\); save the one"):
        read_checkpoint(tmp_path / "dino.pth")
    torch.save({"last": one, "best": {name: tensor.clone() for name, tensor in one.items()}}, tmp_path / "same.pth")
    assert np.array_equal(read_checkpoint(tmp_path / "same.pth").state["head.weight"], WEIGHTS["head.weight"])


def test_an_optimizers_averages_are_no_weights(tmp_path: Path) -> None:
    arrays = in_layout("google")
    moments = {f"opt_state/0/{m}/{name}": np.zeros_like(a) for m in ("mu", "nu") for name, a in arrays.items()}
    np.savez(tmp_path / "optax.npz", **moments, **prefixed("params/")(arrays))
    state = read_checkpoint(tmp_path / "optax.npz").state
    assert np.array_equal(state["stem.weight"], WEIGHTS["stem.proj.weight"])


def test_a_head_of_ones_own_beside_the_backbone_is_pointed_out(tmp_path: Path) -> None:
    body = {name: tensor for name, tensor in tensors(WEIGHTS).items() if not name.startswith("head")}
    torch.save(prefixed("backbone.")(body) | {"classifier.weight": torch.ones(3, 16)}, tmp_path / "m.pth")
    checkpoint = read_checkpoint(tmp_path / "m.pth")
    assert checkpoint.config.classes == 0
    assert any("classifier.weight beside the Mixer looks like its head" in note for note in checkpoint.notes)


def test_mmpretrains_backbone_alone(tmp_path: Path) -> None:
    arrays = {name.removeprefix("backbone."): a for name, a in in_layout("mmpretrain").items() if "head" not in name}
    save_file(arrays, tmp_path / "m.safetensors")
    checkpoint = read_checkpoint(tmp_path / "m.safetensors")
    assert (checkpoint.layout, checkpoint.config.classes) == ("mmpretrain", 0)


@pytest.mark.parametrize("layout", ["google", "google-encoderblock"])
@pytest.mark.parametrize("prefix", ["params/", "opt/target/", "params/params/"])
def test_flax_train_states(tmp_path: Path, layout: str, prefix: str) -> None:
    arrays = prefixed(prefix)(in_layout(layout)) | {"opt/state/step": np.array(7), "opt/state/mu": np.ones(3)}
    np.savez(tmp_path / "checkpoint.npz", **arrays)
    checkpoint = read_checkpoint(tmp_path / "checkpoint.npz")
    assert checkpoint.layout == layout
    assert np.array_equal(checkpoint.state["stem.weight"], WEIGHTS["stem.proj.weight"])


@pytest.mark.parametrize("average", ["model_ema", "state_dict_ema"])
def test_averaged_weights_come_before_the_last_ones(tmp_path: Path, average: str) -> None:
    last = tensors(oracle.random_timm_weights(seed=1))
    torch.save({"state_dict": last, "model": last, average: prefixed("module.")(tensors(WEIGHTS))}, tmp_path / "r.pth")
    state = read_checkpoint(tmp_path / "r.pth").state
    assert np.array_equal(state["head.weight"], WEIGHTS["head.weight"])


def test_the_arguments_in_a_timm_training_checkpoint_do_no_harm(tmp_path: Path) -> None:
    torch.save({"state_dict": tensors(WEIGHTS), "args": Namespace(lr=0.1, model="x")}, tmp_path / "last.pth.tar")
    assert read_checkpoint(tmp_path / "last.pth.tar").layout == "timm"


def test_norms_numbered_before_linen(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", **published.google(WEIGHTS, second_norm="LayerNorm_10"))
    state = read_checkpoint(tmp_path / "m.npz").state
    assert np.array_equal(state["blocks.1.layer_norm_1.bias"], WEIGHTS["blocks.1.norm2.bias"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floats_become_float32(tmp_path: Path, dtype: Any) -> None:
    np.savez(tmp_path / "m.npz", **{name: array.astype(dtype) for name, array in in_layout("google").items()})
    state = read_checkpoint(tmp_path / "m.npz").state
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    expected = WEIGHTS["stem.proj.weight"].astype(dtype).astype(np.float32)
    assert np.array_equal(state["stem.weight"], expected)


def test_bfloat16(tmp_path: Path) -> None:
    rounded = {name: torch.from_numpy(array).bfloat16() for name, array in WEIGHTS.items()}
    save_torch(rounded, tmp_path / "m.safetensors")
    np.savez(
        tmp_path / "m.npz",
        **{
            name: published.bfloat16_as_void(array)
            for name, array in published.google({n: t.float().numpy() for n, t in rounded.items()}).items()
        },
    )
    for name in ("m.safetensors", "m.npz"):
        state = read_checkpoint(tmp_path / name).state
        assert torch.equal(state["stem.weight"], rounded["stem.proj.weight"].float()), name


@every_layout
def test_without_a_head_there_are_no_classes(tmp_path: Path, layout: str) -> None:
    head = ("head", "mlp_head", "6.")  # 6. where names are numbers and there are two blocks
    arrays = {name: array for name, array in in_layout(layout).items() if not name.startswith(head)}
    np.savez(tmp_path / "m.npz", **arrays)
    checkpoint = read_checkpoint(tmp_path / "m.npz")
    assert checkpoint.config.classes == 0
    assert reference_outputs(checkpoint, PIXELS)["features"].shape == (2, 16)


@every_layout
def test_a_missing_weight_is_named_as_the_file_would_name_it(tmp_path: Path, layout: str) -> None:
    complete = in_layout(layout)
    for name in complete:
        np.savez(tmp_path / "m.npz", **{other: array for other, array in complete.items() if other != name})
        with pytest.raises(CheckpointError, match=rf"missing {name.replace('LayerNorm_2', 'LayerNorm_[12]')}"):
            read_checkpoint(tmp_path / "m.npz")
