"""PNG: the chunks that decide the pixels.

Portable Network Graphics (Third Edition), https://www.w3.org/TR/png-3/, section 5.
"""

import struct
import zlib

from service.errors import UnsupportedImage
from service.images import exif
from service.images.stripped import Samples, Stripped, check_size, damaged, pieces, too_many_pieces

_DEPTH, _COLOUR_TYPE, _PALETTE = 8 + 8, 8 + 9, 3  # places in the chunk of the header, and a value
_GRAY_ALPHA, _RGB_ALPHA = 4, 6
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The header, palette, transparent colour and pixels; the pixels in one chunk, of an animation the first image.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`, or too many chunks.
        UnsupportedImage: Apple's variant of PNG, or a chunk that must be understood and is not.
        InvalidImage: one of these chunks is missing, cut short or fails its checksum.
    """
    file = memoryview(data)
    kept: dict[bytes, memoryview] = {}
    pixels: list[memoryview] = []
    orientation, has_profile = 1, False
    at = len(_SIGNATURE)
    for _ in pieces(data):
        start = at + 8
        length, name = int.from_bytes(file[at : at + 4], "big"), data[at + 4 : start]
        end = start + length
        if len(data) < end:
            # Without an end, which holds nothing, the pixels may be complete all the same.
            if name in (b"IDAT", b"IHDR", b"PLTE", b"tRNS"):
                raise damaged("PNG", f"of {length} bytes in its last chunk, {end - len(data)} are missing")
            break
        at = end + 4
        if name in (b"IDAT", b"IHDR", b"PLTE", b"tRNS"):
            # Of the last checksum, some or all may be cut off: the pixels have one of their own.
            checksum = data[end:at]
            if len(checksum) == 4 and zlib.crc32(file[start - 4 : end]) != int.from_bytes(checksum, "big"):
                raise damaged("PNG", f"a chunk {name.decode()} fails its checksum")
            if name == b"IDAT":
                pixels.append(file[start:end])
            elif not pixels:
                kept.setdefault(name, file[start - 8 : at])
        elif name == b"IEND":
            break
        elif name == b"iCCP":
            has_profile = True
        elif name == b"eXIf" and zlib.crc32(file[start - 4 : end]) == int.from_bytes(data[end:at], "big"):
            orientation = exif.orientation(data[start:end])
        elif name == b"CgBI":
            raise UnsupportedImage("Apple's own variant of PNG (CgBI) is not accepted", reason="variant")
        elif not name.isalpha():
            break  # no chunk, but bytes behind the image
        elif name[:1].isupper():  # a reader must understand it
            raise UnsupportedImage(f"a PNG with the unknown chunk {name.decode()} is not accepted", reason="variant")
    else:
        raise too_many_pieces("PNG")
    header = kept.get(b"IHDR", memoryview(b""))
    if len(header) < 8 + 13 or not pixels:
        raise damaged("PNG", "it has no pixels")
    width, height = struct.unpack_from(">II", header, 8)
    check_size(width, height, max_pixels)
    if header[_COLOUR_TYPE] == _PALETTE and b"PLTE" not in kept:
        raise damaged("PNG", "it has no palette")
    colours = (len(kept[b"PLTE"]) - 12) // 3 if header[_COLOUR_TYPE] == _PALETTE else 0
    stream = b"".join(pixels)
    parts = (
        *(kept[name] for name in (b"IHDR", b"PLTE", b"tRNS") if name in kept),
        struct.pack(">I", len(stream)) + b"IDAT",
        stream,
        b"\0\0\0\0",  # of the checksum, which the decoder does not look at
        _END,
    )
    return Stripped(
        _SIGNATURE + b"".join(parts), width, height, orientation, has_profile, colours=colours, samples=_samples(kept)
    )


def _samples(kept: dict[bytes, memoryview]) -> Samples:
    colour_type, depth = kept[b"IHDR"][_COLOUR_TYPE], kept[b"IHDR"][_DEPTH]
    alpha = "straight" if colour_type in (_GRAY_ALPHA, _RGB_ALPHA) else None
    colours = {_PALETTE: "palette", 0: "gray", _GRAY_ALPHA: "gray"}.get(colour_type, "rgb")
    transparent = kept.get(b"tRNS", memoryview(b""))[8:-4]
    count = {"gray": 1, "rgb": 3}.get(colours, 0)
    told = count > 0 and not alpha and len(transparent) >= 2 * count
    return Samples(colours, alpha, depth, struct.unpack_from(f">{count}H", transparent) if told else None)
