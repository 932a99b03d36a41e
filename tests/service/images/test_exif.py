import struct

import pytest

from service.images.exif import orientation


def exif(order: str, kind: int, value: bytes, count: int = 1, before: int = 0) -> bytes:
    entries = struct.pack(order + "HHI4s", 0x10F, 2, 4, b"abc\0") * before
    entries += struct.pack(order + "HHI", 0x112, kind, count) + value.ljust(4, b"\0")
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IH", 8, before + 1) + entries + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("prefix", [b"", b"Exif\0\0"])
def test_the_tag_in_the_first_directory(order: str, prefix: bytes) -> None:
    for value in range(10):
        assert orientation(prefix + exif(order, 3, struct.pack(order + "H", value))) == value
        assert orientation(prefix + exif(order, 4, struct.pack(order + "I", value), before=5)) == value


def test_what_cannot_be_read_is_as_stored() -> None:
    whole = exif("<", 3, b"\6", before=3)
    assert orientation(whole) == 6
    for cut in range(len(whole) - 7):
        assert orientation(whole[:cut]) == 1
    assert orientation(exif("<", 3, b"\6", count=2)) == 1
    assert orientation(exif("<", 5, b"\6")) == 1
    assert orientation(exif("<", 3, b"\6", before=1000)) == 1
    assert orientation(b"II*\0" + struct.pack("<I", 2**32 - 1)) == 1
    assert orientation(b"text") == 1
