"""WebP: the chunks that decide the pixels.

RFC 9649, section 2; the frames' headers: RFC 6386, section 9.1, and RFC 9649, section 3.4.
"""

import struct

from service.images import exif
from service.images.stripped import Stripped, check_size, damaged, pieces, too_many_pieces

_ALPHA = 0x10  # a flag of the extended header
_FRAME_HEADER = 16  # bytes of an animation's frame before its chunks
_CANVAS = 10  # bytes of the extended header


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The image, or the first frame of an animation, as a file of its own; a frame's place on the canvas is told.

    Raises:
        ImageTooLarge: a canvas or a frame of more than `max_pixels`, or too many chunks.
        InvalidImage: damaged, or cut short before the end of the pixels.
    """
    canvas: tuple[int, int] | None = None
    at: tuple[int, int] | None = None
    orientation, has_profile = 1, False
    image: bytes | None = None
    alpha = b""
    position, end_of_frame = 12, len(data)
    for _ in pieces(data):
        name, start = data[position : position + 4], position + 8
        if start > end_of_frame:
            break
        (length,) = struct.unpack_from("<I", data, position + 4)
        end = start + length
        position = end + length % 2
        if name == b"ANMF" and image is None and at is None:
            frame = data[start : start + _FRAME_HEADER].ljust(_FRAME_HEADER, b"\0")
            at = 2 * int.from_bytes(frame[:3], "little"), 2 * int.from_bytes(frame[3:6], "little")
            position, end_of_frame = start + _FRAME_HEADER, min(end, len(data))
        elif name in (b"VP8 ", b"VP8L", b"ALPH") and image is None:
            if end > len(data):
                raise damaged("WEBP", f"of {length} bytes of pixels, {end - len(data)} are missing")
            chunk = data[start - 8 : end] + b"\0" * (length % 2)
            if name == b"ALPH":
                alpha = chunk
            else:
                image = chunk
                if at is not None:  # whatever follows belongs to no frame or to others
                    end_of_frame = len(data)
        elif name == b"VP8X" and length >= _CANVAS:
            canvas = _three_bytes(data, start + 4) + 1, _three_bytes(data, start + 7) + 1
            check_size(*canvas, max_pixels)
        elif name == b"ICCP":
            has_profile = True
        elif name == b"EXIF" and end <= len(data):
            orientation = exif.orientation(data[start:end])
    else:
        raise too_many_pieces("WEBP")
    if image is None:
        raise damaged("WEBP", "it has no pixels")
    width, height = _size(image)
    check_size(width, height, max_pixels)
    chunks = image
    if alpha and image.startswith(b"VP8 "):
        header = struct.pack("<I", _ALPHA) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        chunks = b"VP8X" + struct.pack("<I", len(header)) + header + alpha + image
    file = b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks
    canvas = canvas or (width, height)
    if at is None and canvas != (width, height):
        raise damaged("WEBP", "its two sizes differ")
    return Stripped(file, *canvas, orientation, has_profile, at=at)


def _three_bytes(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 3], "little")


def _size(chunk: bytes) -> tuple[int, int]:
    """Of the image in a chunk VP8 or VP8L."""
    if chunk.startswith(b"VP8 ") and chunk[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", chunk.ljust(18, b"\0"), 14)
        return width & 0x3FFF, height & 0x3FFF
    if chunk.startswith(b"VP8L") and chunk[8:9] == b"\x2f":
        bits = int.from_bytes(chunk[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise damaged("WEBP", "its pixels have no header")
