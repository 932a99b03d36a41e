"""Every file that is no complete Mixer gets one sentence with its cause, and nothing in it is executed."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from model_export.__main__ import main
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from tests.model_export import oracle, published

Change = Callable[[oracle.Arrays], object]


def refused(path: Path, cause: str) -> None:
    with pytest.raises(CheckpointError, match=cause) as caught:
        read_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


def setting(name: str, array: np.ndarray) -> Change:
    return lambda weights: weights.update({name: array})


def without(*parts: str) -> Change:
    def change(weights: oracle.Arrays) -> None:
        for name in [name for name in weights if any(part in name for part in parts)]:
            del weights[name]

    return change


def renamed(old: str, new: str) -> Change:
    return lambda weights: weights.update(
        {name.replace(old, new): weights.pop(name) for name in list(weights) if old in name}
    )


FLOATS = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        pytest.param(without("stem"), r"missing stem\.proj\.weight, stem\.proj\.bias$", id="no stem"),
        pytest.param(without("norm2.bias"), r"missing blocks\.0\.norm2\.bias, blocks\.1\.norm2\.bias$", id="missing"),
        pytest.param(without("head.bias"), r"missing head\.bias$", id="half a head"),
        pytest.param(renamed("blocks.1.", "blocks.2."), "blocks 1 of 3 are missing", id="no middle block"),
        pytest.param(renamed("blocks.1.", "blocks.987654321."), r"unexpected blocks\.987654321", id="far block"),
        pytest.param(without("mlp_tokens", "mlp_channels"), "no known Mixer layout", id="no MLP"),
        pytest.param(setting("extra", FLOATS), "unexpected extra", id="one too many"),
        pytest.param(setting("ex\ntra\x1b[2J", FLOATS), r"unexpected ex tra \[2J", id="unprintable name"),
        pytest.param(setting("norm.bias", np.zeros(3, np.float32)), r"norm\.bias has shape \[3\]", id="shape"),
        pytest.param(setting("stem.proj.weight", np.zeros(3, np.float32)), "1 dimensions, expected 4", id="flat stem"),
        pytest.param(setting("stem.proj.weight", np.zeros((16, 1, 4, 4), np.float32)), "1 colour channels", id="gray"),
        pytest.param(setting("stem.proj.weight", np.zeros((16, 4, 4, 4), np.float32)), "4 colour channels", id="RGBA"),
        pytest.param(setting("stem.proj.weight", np.zeros((16, 3, 0, 0), np.float32)), "is empty", id="patch of 0"),
        pytest.param(setting("stem.proj.weight", np.zeros((16, 3, 4, 5), np.float32)), "shape", id="oblong patch"),
        pytest.param(setting("blocks.0.mlp_tokens.fc1.weight", np.zeros((8, 15), np.float32)), "square", id="grid"),
        pytest.param(setting("head.weight", np.zeros((7, 16), np.int64)), r"head\.weight is int64", id="integers"),
        pytest.param(
            setting("norm.bias", np.full(16, np.nan, np.float32)),
            r"norm\.bias holds values that are not finite",
            id="NaN",
        ),
        pytest.param(setting("norm.bias", np.full(16, np.inf, np.float32)), "not finite", id="infinity"),
        pytest.param(setting("blocks.0.mlp_tokens.fc2.weight", np.zeros((16, 4), np.float32)), "gMixer", id="gMixer"),
    ],
)
def test_no_complete_mixer(tmp_path: Path, change: Change, cause: str) -> None:
    weights = oracle.random_timm_weights()
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", cause)


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["stem.proj.weight", "blocks.0.norm1.alpha", "blocks.0.linear_tokens.weight"], "is a ResMLP"),
        (
            ["patch_embed.proj.weight", "blocks.0.norm1.alpha", "blocks.0.attn.weight", "blocks.0.gamma_1"],
            "is a ResMLP",
        ),
        (["stem.proj.weight", "blocks.0.norm.weight", "blocks.0.mlp_channels.gate.proj.weight"], "is a gMLP"),
        (["1.weight", "2.0.fn.0.fns.0.1.weight", "2.1.fn.0.weight"], "is a Permutator"),
        (["cls_token", "pos_embed", "blocks.0.attn.qkv.weight"], "is a Vision Transformer"),
        (["Transformer/posembed_input/pos_embedding"], "is a Vision Transformer"),
        (["conv1.weight", "layer1.0.bn1.weight"], r"no known Mixer layout .*it holds conv1\.weight"),
    ],
)
def test_relatives_are_refused_by_name(tmp_path: Path, names: list[str], cause: str) -> None:
    save_file(dict.fromkeys(names, FLOATS), tmp_path / "model.safetensors")
    refused(tmp_path / "model.safetensors", cause)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_linear_stem_for_other_than_rgb(tmp_path: Path, channels: int) -> None:
    weights = published.lucidrains(oracle.random_timm_weights()) | {
        "1.weight": np.zeros((16, 16 * channels), np.float32)
    }
    save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", f"its patches have {16 * channels} values, .*only RGB is served")


def test_shapes_are_named_as_a_flax_file_has_them(tmp_path: Path) -> None:
    npz = published.google(oracle.random_timm_weights())
    npz["MixerBlock_1/channel_mixing/Dense_0/kernel"] = np.zeros((16, 31), np.float32)
    np.savez(tmp_path / "m.npz", **npz)
    refused(tmp_path / "m.npz", r"MixerBlock_1/channel_mixing/Dense_0/kernel has shape \[16, 31\], expected \[16, 32\]")


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth", "model.npz"])
@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (b"", "empty file"),
        (b"garbage", "unknown kind"),
        (b"PK\x03\x04 cut", "zip"),
        (b"\x80\x02 cut", "cannot be read"),
        (struct.pack("<Q", 2**40) + b"{", "cannot be read"),
        (struct.pack("<Q", 2) + b"{}", "no known Mixer layout .*it holds no tensor"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>Not found</html>", "XML or HTML: a page of an error"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, data: bytes, cause: str) -> None:
    (tmp_path / name).write_bytes(data)
    refused(tmp_path / name, cause)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("container", ["npz", "pth", "safetensors"])
def test_truncated_files(tmp_path: Path, container: str, share: float) -> None:
    weights, path = oracle.random_timm_weights(), tmp_path / "m"
    with path.open("wb") as file:
        if container == "npz":
            np.savez(file, **published.google(weights))
        elif container == "pth":
            torch.save({name: torch.from_numpy(array) for name, array in weights.items()}, file)
        else:
            save_file(weights, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "cannot be read")


def test_missing_files_and_empty_folders(tmp_path: Path) -> None:
    refused(tmp_path / "none.npz", "no such file")
    refused(tmp_path, "folder without weights")
    (tmp_path / "a.pth").touch()
    (tmp_path / "b.pth").touch()
    refused(tmp_path, "several weights: a.pth, b.pth")


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.witness, "executed")


def test_no_code_is_executed(tmp_path: Path) -> None:
    witness, hostile = tmp_path / "witness", Hostile(tmp_path / "witness")
    weights = oracle.random_timm_weights()
    complete = {name: torch.from_numpy(array) for name, array in weights.items()}
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"stem.proj.weight": hostile}, protocol=2))
    torch.save(complete | {"beside a complete Mixer": hostile}, tmp_path / "zip.pth")
    np.savez(tmp_path / "object.npz", **published.google(weights), beside=np.array([hostile], dtype=object))
    for name, cause in (("plain.pth", "pickled code"), ("zip.pth", "pickled code"), ("object.npz", "allow_pickle")):
        refused(tmp_path / name, cause)
    assert not witness.exists()


class Shell:
    """What every tutorial on hostile pickles runs."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_shell_command_is_refused_without_advice_to_trust_it(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "model.pth").write_bytes(pickle.dumps({"stem.proj.weight": Shell(witness)}, protocol=protocol))
    refused(tmp_path / "model.pth", "posix.system, and pickled code is never run|its pickle holds more than tensors")
    assert not witness.exists()


def test_a_pickled_network_is_told_to_become_a_state_dict(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(1, 1), tmp_path / "model.pth")
    refused(tmp_path / "model.pth", r"torch\.nn\.modules\.linear\.Linear.*save only the state_dict")


def test_other_objects_in_torch_files(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "holds a list, not a mapping")
    endless: dict[str, object] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "endless.pth")
    refused(tmp_path / "endless.pth", "cannot be read")


def test_bombs_are_refused_unopened(tmp_path: Path) -> None:
    np.savez(tmp_path / "bomb.npz", **published.google(oracle.random_timm_weights()))
    data = bytearray((tmp_path / "bomb.npz").read_bytes())
    entry = data.index(b"PK\x01\x02")  # of the directory, which says how large a member will be
    data[entry + 24 : entry + 28] = struct.pack("<I", 0xF0000000)
    (tmp_path / "bomb.npz").write_bytes(data)
    refused(tmp_path / "bomb.npz", "zip bomb")
    state = {name: torch.from_numpy(array) for name, array in oracle.random_timm_weights().items()}
    torch.save(state | {"head.weight": torch.ones(1, 16).expand(10**9, 16)}, tmp_path / "expanded.pth")
    refused(tmp_path / "expanded.pth", r"head\.weight is no plain, dense tensor")
    torch.save(state | {"head.weight": torch.ones(7, 16, device="meta")}, tmp_path / "meta.pth")
    refused(tmp_path / "meta.pth", r"head\.weight is no plain, dense tensor")
    torch.save(state | {"head.weight": torch.ones(7, 16).to_sparse()}, tmp_path / "sparse.pth")
    refused(tmp_path / "sparse.pth", r"head\.weight is no plain, dense tensor")


@pytest.mark.parametrize("shape", ["(-1,)", "(1e3,)", "(nan,)", "(99999999999999,)", "(True,)"])
def test_npz_headers_that_lie(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    with zipfile.ZipFile(tmp_path / "m.npz", "w") as archive:
        archive.writestr("stem/kernel.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
    refused(tmp_path / "m.npz", "cannot be read")


def test_damaged_metadata_of_our_own(tmp_path: Path) -> None:
    save_file(oracle.random_timm_weights(), tmp_path / "timm.safetensors")
    write_checkpoint(tmp_path / "ours.safetensors", read_checkpoint(tmp_path / "timm.safetensors"))
    data = (tmp_path / "ours.safetensors").read_bytes()
    for old, new in ((b'\\"gelu\\"', b'\\"glue\\"'), (b'\\"crop\\": 16', b'\\"crop\\": 99'), (b"erf", b"err")):
        assert old in data
        (tmp_path / "bad.safetensors").write_bytes(data.replace(old, new))
        refused(tmp_path / "bad.safetensors", "its metadata is damaged")


def test_config_json(tmp_path: Path) -> None:
    save_file(oracle.random_timm_weights(), tmp_path / "model.safetensors")
    for config, cause in (
        (b"{", "config.json is damaged"),
        (b"[]", "config.json is damaged"),
        (b"\xff", "config.json is not UTF-8"),
        (json.dumps({"crop_mode": "squash"}).encode(), "only 'center' is served"),
        (json.dumps({"interpolation": "nearest"}).encode(), "interpolation 'nearest' is not supported"),
        (json.dumps({"crop_pct": 0}).encode(), "crop_pct is 0"),
        (json.dumps({"std": [0, 1, 1]}).encode(), "std positive"),
        (json.dumps({"mean": [0, 1]}).encode(), "mean"),
        (json.dumps({"mean": "x"}).encode(), "config.json"),
        (json.dumps({"label_names": ["a"]}).encode(), "1 labels, the head has 7"),
        (json.dumps({"model_args": {"act_layer": "relu"}}).encode(), "'relu' is no GELU"),
    ):
        (tmp_path / "config.json").write_bytes(config)
        refused(tmp_path, cause)


def test_the_command_line_shows_the_sentence_and_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "model.npz").write_bytes(b"garbage")
    for command in (["inspect"], ["export", "--name", "x", "--repository", str(tmp_path / "models")]):
        with pytest.raises(SystemExit, match=r"^mixer-export: .*model\.npz: cannot be read as a checkpoint: unknown"):
            main([*command, str(tmp_path / "model.npz")])
    assert not (tmp_path / "models").exists()
