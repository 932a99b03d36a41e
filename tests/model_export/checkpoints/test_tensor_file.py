"""Containers are recognised by all of their magic."""

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from safetensors.numpy import save_file

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint, write_checkpoint
from model_export.checkpoints.class_names import ClassNames
from model_export.checkpoints.tensor_file import read_tensors
from tests.model_export import oracle


@pytest.mark.parametrize("first", range(256))
def test_safetensors_with_every_first_byte(tmp_path: Path, first: int) -> None:
    """The first byte is the low one of the header's length: padding the header sets it to anything."""
    path = tmp_path / "m.safetensors"
    save_file({"a": np.arange(3, dtype=np.float32)}, path, {"said": "so"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].ljust(length + (first - length) % 256)
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    assert path.read_bytes()[0] == first
    file = read_tensors(path)
    assert file.tensors["a"].tolist() == [0, 1, 2]
    assert file.told == {"said": "so"}


def test_our_own_metadata_survive_the_first_byte_of_a_pickle(tmp_path: Path, tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    path = tmp_path / "m.safetensors"
    for padding in range(0, 256, 8):  # the format aligns its header to eight bytes
        labels = tuple(f"{i}" * (padding + 1 if i == 0 else 1) for i in range(7))
        write_checkpoint(path, checkpoint.with_new_head(7, ClassNames(labels)))
        if path.read_bytes()[0] == 0x80:
            break
    else:
        pytest.fail("no padding gave that first byte")
    assert read_checkpoint(path).labels == labels
    assert read_checkpoint(path).layout == "mixer"


def scripted() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl", "m/code/__torch__.py", "m/data/0", "m/version"):
            archive.writestr(name, b"x")
    return file.getvalue()


def exported_program() -> bytes:
    file = io.BytesIO()
    torch.export.save(torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),)), file)
    return file.getvalue()


def onnx_model() -> bytes:
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [value])
    model: bytes = helper.make_model(graph).SerializeToString()
    return model


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("weights.pth"))
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.zeros(3))
    return file.getvalue()


def other_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/weights.pth", b"x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (scripted, "is a TorchScript program, .*state_dict"),
        (exported_program, "is an exported program .*state_dict"),
        (onnx_model, "is an ONNX model, .*export the checkpoint"),
        (lambda: b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5 file"),
        (lambda: gzip.compress(b"weights"), "is compressed by gzip: unpack it"),
        (tar, "is a tar archive: unpack it"),
        (npy, r"is one array \(\.npy\)"),
        (other_zip, "is a zip archive with neither"),
        (lambda: b"\x80\x04\x95\x0a\x00\x00\x00\x00\x00\x00\x00}\x94.", "a plain pickle, not written by torch.save"),
    ],
    ids=["TorchScript", "pt2", "ONNX", "HDF5", "gzip", "tar", "npy", "zip", "pickle"],
)
def test_other_kinds_get_one_sentence_that_says_what_to_do(
    tmp_path: Path, write: Callable[[], bytes], sentence: str
) -> None:
    (tmp_path / "file").write_bytes(write())
    with pytest.raises(CheckpointError, match=sentence) as caught:
        read_checkpoint(tmp_path / "file")
    assert "\n" not in str(caught.value)


def test_metadata_that_are_json_are_read(tmp_path: Path) -> None:
    metadata = {"id2label": json.dumps({str(i): f"class {i}" for i in range(7)})}
    save_file(oracle.random_timm_weights(), tmp_path / "m.safetensors", metadata)
    assert read_checkpoint(tmp_path / "m.safetensors").labels == tuple(f"class {i}" for i in range(7))
