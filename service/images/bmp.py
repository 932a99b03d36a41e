"""BMP: the header in the one form that Pillow reads rightly, and the pixels.

Microsoft: BITMAPINFOHEADER to BITMAPV5HEADER and BITMAPCOREHEADER; OS/2 2.x: BITMAPINFOHEADER2.
"""

import struct

from service.errors import UnsupportedImage
from service.images.stripped import Stripped, check_size, damaged

_BYTE = 8  # bits
_CORE = 12  # bytes of the oldest header, whose sides have 16 bits and whose palette three bytes an entry
_PLAIN, _MASKS, _ALPHA_MASKS = 0, 3, 6  # compressions
_COMPRESSIONS = {1: "runs of 8 bits", 2: "runs of 4 bits", 4: "JPEG", 5: "PNG"}
_OS2 = (16, 64)  # whose compressions 3 and 4 are others
# Red, green, blue and alpha, as Pillow has them.
_MASKS_READ = {
    16: {(0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)},
    24: {(0xFF0000, 0xFF00, 0xFF, 0)},
    32: {
        (0xFF0000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0),
        (0xFF000000, 0xFF00, 0xFF, 0),
        (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
        (0xFF, 0xFF00, 0xFF0000, 0xFF000000),
        (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
        (0xFF000000, 0xFF00, 0xFF, 0xFF0000),
        (0, 0, 0, 0),
    },
}


def strip(data: bytes, max_pixels: int) -> Stripped:
    """A header of 40 or 56 bytes, a palette of as many entries as the pixels can name, and the pixels.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`.
        UnsupportedImage: compressed, or a layout of bits that is not decoded, by its name.
        InvalidImage: damaged, or cut short.
    """
    if len(data) < 14 + _CORE:
        raise damaged("BMP", "it ends before its pixels")
    (offset, size) = struct.unpack_from("<II", data, 10)
    head = data[14 : 14 + size]
    if size == _CORE:
        width, height, _, bits = struct.unpack_from("<HHHH", head, 4)
        compression = colours_used = 0
    else:
        fields = struct.unpack_from("<iiHHIIiiI", head.ljust(40, b"\0"), 4)
        width, height, _, bits, compression, *_, colours_used = fields
    check_size(width, abs(height), max_pixels)
    if bits not in (1, 4, 8, 16, 24, 32):
        raise UnsupportedImage(f"a BMP of {bits} bits a pixel is not accepted", reason="samples")
    if compression not in (_PLAIN, _MASKS, _ALPHA_MASKS) or (size in _OS2 and compression != _PLAIN):
        name = _COMPRESSIONS.get(compression, f"number {compression}")
        raise UnsupportedImage(f"BMP compression {name} is not accepted", reason="compression")
    palette_at, masks = 14 + size, b""
    if compression != _PLAIN:
        count = 4 if size >= 56 or compression == _ALPHA_MASKS else 3
        masks = data[54 : 54 + 4 * count].ljust(16, b"\0")
        if size == 40:
            palette_at += 4 * count
        if struct.unpack("<4I", masks) not in _MASKS_READ.get(bits, ()):
            raise UnsupportedImage(
                f"this layout of the {bits} bits of a BMP's pixels is not accepted", reason="samples"
            )
    palette, colours = b"", 0
    if bits <= _BYTE:
        entry = 3 if size == _CORE else 4
        colours = min(colours_used or 2**bits, 2**bits)
        if palette_at < offset:
            colours = min(colours, (offset - palette_at) // entry)
        palette = _palette(data[palette_at : palette_at + entry * colours], entry, bits)
        palette_at += entry * colours
        if bits == 4 and palette == b"".join(bytes((level, level, level, 0)) for level in range(16)):
            raise UnsupportedImage("a BMP of the 16 darkest grays is not accepted", reason="samples")  # Pillow's fault
    pixels = data[max(offset, palette_at) :]
    row = (width * bits + 31) // 32 * 4
    missing = row * (abs(height) - 1) + (width * bits + 7) // 8 - len(pixels)
    if missing > 0:
        raise damaged("BMP", f"of {missing + len(pixels)} bytes of pixels, {missing} are missing")
    head = struct.pack("<IiiHHIIiiII", 56 if masks else 40, width, height, 1, bits, 3 if masks else 0, 0, 0, 0, 0, 0)
    start = 14 + len(head) + len(masks) + len(palette)
    file = struct.pack("<2sIHHI", b"BM", 0, 0, 0, start) + head + masks + palette + pixels + bytes(row)
    return Stripped(file, width, abs(height), colours=colours)


def _palette(entries: bytes, size: int, bits: int) -> bytes:
    """As many entries of four bytes as the pixels can name: Pillow takes pixels of 4 or 8 bits for one, if fewer."""
    colours = b"".join(entries[i : i + 3].ljust(4, b"\0") for i in range(0, len(entries), size))
    return colours.ljust(4 * 2**bits, b"\0")
