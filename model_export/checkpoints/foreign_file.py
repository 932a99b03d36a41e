"""Files of other kinds, recognised by their first bytes, and what to do with each."""

_SAVE_WEIGHTS = "save the weights where it was made: torch.save(model.state_dict(), FILE)"
_SAVE_NPZ = "save its arrays under their own names with numpy.savez"

_MAGICS = (  # offset, bytes, what it is and what to do
    (0, b"version https://git-lfs", "is a Git LFS pointer, the weights themselves were not fetched: git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", f"is an HDF5 file, as Keras writes; {_SAVE_NPZ}"),
    (0, b"GGUF", f"is a GGUF file; {_SAVE_WEIGHTS}"),
    (4, b"TFL3", f"is a TensorFlow Lite model; {_SAVE_WEIGHTS}"),
    (4, b"ORTM", "is an onnxruntime model without a Mixer's names; export the checkpoint that it was made from"),
    (0, b"\x93NUMPY", f"is one array (.npy) where a Mixer has many; {_SAVE_NPZ}"),
    (0, b"\x1f\x8b", "is compressed by gzip: unpack it and name the file inside"),
    (0, b"BZh", "is compressed by bzip2: unpack it and name the file inside"),
    (0, b"\xfd7zXZ\x00", "is compressed by xz: unpack it and name the file inside"),
    (0, b"\x28\xb5\x2f\xfd", "is compressed by zstd: unpack it and name the file inside"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive: unpack it and name the file inside"),
    (0, b"Rar!", "is a RAR archive: unpack it and name the file inside"),
    (257, b"ustar", "is a tar archive: unpack it and name the file inside"),
    (
        0,
        b"<",
        "is XML or HTML: a page of an error that was downloaded instead of the file, or OpenVINO's graph, which has no "
        "Mixer's names; name the checkpoint itself",
    ),
)
LONGEST = 512  # bytes of a file's beginning that are looked at
_ONNX_SECOND_FIELDS = b"\x12\x1a\x22\x28\x32\x3a\x42"  # what follows ir_version in a ModelProto


def foreign_file(head: bytes) -> str | None:
    """What a file that begins so is and what to do about it, in words that follow its name; None if unknown."""
    for offset, magic, sentence in _MAGICS:
        if head[offset : offset + len(magic)] == magic:
            return sentence
    if head[:1] == b"\x08" and 1 <= head[1] <= 32 and head[2:3] and head[2] in _ONNX_SECOND_FIELDS:
        return "is an ONNX model, a graph without a Mixer's names; export the checkpoint that it was made from"
    return None


def foreign_archive(members: list[str]) -> str | None:
    """The same for a zip archive with these members."""
    names = {member.partition("/")[2] or member for member in members}
    if "constants.pkl" in names:
        return f"is a TorchScript program, which is code and never run; {_SAVE_WEIGHTS}"
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return (
            "is an exported program (.pt2), which is code and never run; save its weights where it was made: "
            "torch.save(torch.export.load(FILE).state_dict, ANOTHER)"
        )
    if "model.weights.h5" in names:
        return f"is a Keras model; {_SAVE_NPZ}"
    if "data.pkl" not in names and not any(name.endswith(".npy") for name in members):
        return (
            "is a zip archive with neither arrays nor PyTorch's pickle; unpack it and name the file of weights inside"
        )
    return None
