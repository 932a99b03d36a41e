"""GIF: the blocks that decide the pixels of the first frame.

Graphics Interchange Format, version 89a, sections 17 to 27.
"""

import struct
from collections.abc import Iterator

from service.errors import UnsupportedImage
from service.images.stripped import Stripped, check_size, damaged, pieces, too_many_pieces

_EXTENSION, _IMAGE = b"!", b","
_BLOCK = 256  # bytes of a full one
_CONTROL = 0xF9  # graphic control extension
_HAS_PALETTE, _PALETTE_SIZE, _INTERLACED = 0x80, 0x07, 0x40


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The first frame as a file of its own, and its place on the canvas.

    Raises:
        ImageTooLarge: a canvas of more than `max_pixels`, or too many blocks before the frame.
        UnsupportedImage: no palette.
        InvalidImage: damaged, or cut short before the frame.
    """
    screen = data[6:13]
    if len(screen) < 7:
        raise damaged("GIF", "it ends before its pixels")
    screen_width, screen_height, flags = struct.unpack_from("<HHB", screen)
    position = 13 + _palette_bytes(flags)
    palette, palette_flags = data[13:position], flags
    control = b""
    numbers = iter(pieces(data, _BLOCK))  # of the blocks of all extensions together
    for _ in numbers:
        kind = data[position : position + 1]
        if kind == _IMAGE:
            break
        if kind != _EXTENSION:
            raise damaged("GIF", "it has no frame")
        label, size = data[position + 1 : position + 2], data[position + 2 : position + 3]
        if label == bytes([_CONTROL]) and size == b"\4":
            control = data[position : position + 7] + b"\0"
        position = _after_blocks(data, position + 2, numbers)
    else:
        raise too_many_pieces("GIF")
    descriptor = data[position : position + 10]
    if len(descriptor) < 10:
        raise damaged("GIF", "it ends before its pixels")
    left, top, width, height, flags = struct.unpack_from("<HHHHB", descriptor, 1)
    position += 10
    if flags & _HAS_PALETTE:
        palette, palette_flags = data[position : position + _palette_bytes(flags)], flags
        position += _palette_bytes(flags)
    if not palette:
        raise UnsupportedImage("a GIF without a palette is not accepted", reason="variant")
    check_size(width, height, max_pixels)
    canvas = max(screen_width, left + width), max(screen_height, top + height)
    check_size(*canvas, max_pixels)
    file = (
        b"GIF89a"
        + struct.pack("<HHBBB", width, height, _HAS_PALETTE | palette_flags & _PALETTE_SIZE, 0, 0)
        + palette
        + control
        + _IMAGE
        + struct.pack("<HHHHB", 0, 0, width, height, flags & _INTERLACED)
        + data[position:]
    )
    return Stripped(file, *canvas, at=(left, top) if canvas != (width, height) else None, colours=len(palette) // 3)


def _palette_bytes(flags: int) -> int:
    return 3 << (flags & _PALETTE_SIZE) + 1 if flags & _HAS_PALETTE else 0


def _after_blocks(data: bytes, position: int, numbers: Iterator[int]) -> int:
    """Where the sub-blocks from `position` on end."""
    for _ in numbers:
        if position >= len(data):
            raise damaged("GIF", "it ends before its pixels")
        size = data[position]
        position += 1 + size
        if size == 0:
            return position
    raise too_many_pieces("GIF")
