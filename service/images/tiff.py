"""TIFF: the tags that decide the pixels of the first full page, and what their samples mean.

TIFF 6.0; TIFF Technical Notes 1 and 2 (SubIFDs, JPEG); libtiff reads the pixels.
"""

import struct
from dataclasses import dataclass, field

from PIL.TiffImagePlugin import OPEN_INFO

from service.errors import ImageTooLarge, UnsupportedImage
from service.images import jpeg
from service.images.stripped import SIDE, Samples, Stripped, check_size, damaged

_SUBFILE, _OLD_SUBFILE, _WIDTH, _LENGTH, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 255, 256, 257, 258, 259, 262
_FILL_ORDER, _STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES = 266, 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _COLOURS, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES = 284, 317, 320, 322, 323, 324, 325
_INK_SET, _EXTRA, _FORMAT, _JPEG_TABLES, _SUBSAMPLING = 332, 338, 339, 347, 530
_PROFILE, _DNG, _CFA, _LINEAR_RAW = 34675, 50706, 32803, 34892
# What libtiff gets as it is: T4 and T6 options, the coefficients of YCbCr, its subsampling, place and range.
_KEPT = (
    *(_WIDTH, _LENGTH, _BITS, _COMPRESSION, _FILL_ORDER, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR, 292, 293),
    *(_PREDICTOR, _TILE_WIDTH, _TILE_LENGTH, _TILES, _TILE_BYTES, _EXTRA, _FORMAT, _JPEG_TABLES),
    *(529, _SUBSAMPLING, 531, 532),
)
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}  # bytes of a value, by its type
_FORMATS = {1: "B", 3: "H", 4: "I"}
_SHORT, _LONG = 3, 4

_ENTRIES = 1000  # of a directory; cameras write some dozens
_PAGES = 100  # that are thumbnails or masks, before one that is not
_CHUNKS = 2**20  # strips or tiles
_SHARED = 2**20  # bytes of compressed ones that are at one place, such as empty tiles, besides twice the file's

# Everyday TIFF. Old-style JPEG, LZMA, ZSTD, WebP and the rest bring decoders with allocations of their own.
_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32946, 32773)  # none, CCITT, LZW, JPEG, Deflate, PackBits
_OTHERS = {
    **{6: "old-style JPEG", 9: "JBIG", 10: "JBIG", 99: "JPEG", 32766: "NeXT", 32809: "ThunderScan", 34661: "JBIG"},
    **{34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of a DNG"},
    **{34925: "LZMA", 34926: "Zstandard", 34927: "WebP", 50000: "Zstandard", 50001: "WebP"},
    **{50002: "JPEG XL", 52546: "JPEG XL"},
}
_CCITT, _JPEG = (2, 3, 4), 7
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCBCR = 0, 1, 2, 3, 5, 6
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4, _YCBCR: 3}
_NAMES = {
    **{_WHITE_IS_ZERO: "gray", _BLACK_IS_ZERO: "gray", _RGB: "RGB", _PALETTE: "palette", _CMYK: "CMYK"},
    **{_YCBCR: "YCbCr", 4: "transparency mask", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"},
    **{_CFA: "camera raw", _LINEAR_RAW: "camera raw", 32844: "LogL", 32845: "LogLuv"},
}
_SUBSAMPLINGS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 1), (4, 2))  # of 4 by 4, libtiff mixes up the last column
_PREMULTIPLIED, _STRAIGHT = 1, 2
_UNSIGNED = 1
_MOST_SAMPLES, _WIDEST = 7, 16  # of a pixel; bits


@dataclass(frozen=True, slots=True)
class _Directory:
    data: bytes
    order: str
    entries: dict[int, tuple[int, int, int]] = field(repr=False)  # tag: type, count, where its values are
    following: int

    def values(self, tag: int, *default: int) -> tuple[int, ...]:
        if tag not in self.entries:
            return default
        kind, count, at = self.entries[tag]
        if kind not in _FORMATS or count > _CHUNKS:
            raise damaged("TIFF", f"its tag {tag} is none")
        return struct.unpack_from(f"{self.order}{count}{_FORMATS[kind]}", self.data, at)

    def value(self, tag: int, default: int) -> int:
        return next(iter(self.values(tag)), default)


def strip(data: bytes, max_pixels: int) -> Stripped:
    """The first page that is neither a thumbnail nor a mask, with the tags that its pixels need.

    Samples that lie in planes of their own become as many gray files.

    Raises:
        ImageTooLarge: more pixels than `max_pixels`, or too many tags, pages, overlapping strips or tiles, or scans.
        UnsupportedImage: a layout or compression that is not decoded, by its name.
        InvalidImage: damaged, or cut short.
    """
    if data[8:10] == b"CR":
        raise UnsupportedImage("a camera raw file (CR2) is not accepted", reason="variant")
    try:
        return _strip(data, max_pixels)
    except struct.error:
        raise damaged("TIFF", "its tags reach beyond its end") from None


def _strip(data: bytes, max_pixels: int) -> Stripped:
    page = _first_full_page(data)
    width, height = page.value(_WIDTH, 0), page.value(_LENGTH, 0)
    check_size(width, height, max_pixels)
    compression = page.value(_COMPRESSION, 1)
    if compression not in _COMPRESSIONS:
        name = _OTHERS.get(compression, f"number {compression}")
        raise UnsupportedImage(f"TIFF compression {name} is not accepted", reason="compression")
    _check_tiles(page, width, height)
    photometric = page.value(_PHOTOMETRIC, -1)
    bits, extra = page.values(_BITS, 1), page.values(_EXTRA)
    samples = page.value(_SAMPLES, len(bits))
    if photometric < 0 and compression not in _CCITT:
        photometric = {1: _BLACK_IS_ZERO, 3: _RGB}.get(samples, -1)  # as libtiff has it
    bits = bits * samples if len(bits) == 1 and samples <= _MOST_SAMPLES else bits[:samples]
    layout = _Layout(photometric, bits, samples, extra, samples > 1 and page.value(_PLANAR, 1) == 2)
    _check_layout(page, layout, compression)
    _check_pixels(page, layout, compression, max_pixels)
    inverted = photometric == _WHITE_IS_ZERO
    photometric = _BLACK_IS_ZERO if inverted else photometric
    meaning = Samples(_NAMES[photometric].lower(), layout.alpha(), bits[0])
    if layout.planar:
        planes = tuple(_plane(page, number, samples) for number in range(layout.channels() + bool(meaning.alpha)))
    else:
        planes = ()
    tags = {tag: page.entries[tag] for tag in _KEPT if tag in page.entries}
    new: dict[int, tuple[int, ...]] = {_PHOTOMETRIC: (photometric,)}
    if photometric == _PALETTE:
        new[_COLOURS] = _colours(page, bits[0])
    return Stripped(
        planes[0] if planes else _file(page, tags, new),
        width,
        height,
        page.value(_ORIENTATION, 1),
        _PROFILE in page.entries,
        inverted=inverted,
        samples=meaning,
        planes=planes,
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    photometric: int
    bits: tuple[int, ...]  # of each sample
    samples: int  # of a pixel
    extra: tuple[int, ...]  # what the samples beside the colours are
    planar: bool

    def channels(self) -> int:
        """Samples that are colours; 0 if they are of no kind that is decoded."""
        return _CHANNELS.get(self.photometric, 0)

    def alpha(self) -> str | None:
        if self.extra:
            return {_PREMULTIPLIED: "premultiplied", _STRAIGHT: "straight", 0: None}.get(self.extra[0], "undeclared")
        return "undeclared" if self.samples > self.channels() else None

    def __str__(self) -> str:
        name = _NAMES.get(self.photometric, f"photometric {self.photometric}")
        text = f"{'planar ' if self.planar else ''}{name} TIFF of {'+'.join(map(str, self.bits[:_MOST_SAMPLES]))} bits"
        return text + f" with {len(self.extra)} extra samples" * bool(self.extra)

    def is_known(self) -> bool:
        """Whether the tags agree and every sample has a place in the picture."""
        channels, beside = self.channels(), self.samples - self.channels()
        if not 0 < channels <= self.samples <= _MOST_SAMPLES or len(self.bits) != self.samples:
            return False
        if len(set(self.bits)) != 1 or self.bits[0] > _WIDEST:
            return False
        if beside != len(self.extra) and (self.extra or beside != 1):
            return False
        return not (self.alpha() and self.photometric in (_WHITE_IS_ZERO, _CMYK)) and not (
            beside and self.photometric == _PALETTE
        )


def _check_layout(page: _Directory, layout: _Layout, compression: int) -> None:
    """Raise UnsupportedImage unless Pillow and libtiff read it rightly."""
    refused = UnsupportedImage(f"a {layout} is not accepted", reason="samples")
    if set(page.values(_FORMAT, _UNSIGNED)) != {_UNSIGNED}:
        kind = "floating-point, signed or complex samples"
        raise UnsupportedImage(f"a {layout} of {kind} is not accepted", reason="samples")
    if not layout.is_known():
        raise refused
    if layout.photometric == _CMYK and page.value(_INK_SET, 1) != 1:
        raise UnsupportedImage("a TIFF of inks other than CMYK is not accepted", reason="samples")
    predictor, bits = page.value(_PREDICTOR, 1), layout.bits[0]
    if (compression == _JPEG and bits != 8) or predictor > 2 or (predictor == 2 and bits % 8):
        raise refused
    if layout.photometric == _YCBCR and layout.planar:
        raise refused
    if layout.photometric == _YCBCR and compression != _JPEG:
        across, down = page.values(_SUBSAMPLING, 2, 2)
        if (across, down) not in _SUBSAMPLINGS:
            raise UnsupportedImage(f"a {layout}, subsampled {across} by {down}, is not accepted", reason="samples")
    fill_order = page.value(_FILL_ORDER, 1)
    if fill_order != 1:
        refused = UnsupportedImage(f"a {layout}, the lowest first, is not accepted", reason="samples")
    gray = (_BLACK_IS_ZERO, layout.bits[:1], ())
    photometric = _BLACK_IS_ZERO if layout.photometric == _WHITE_IS_ZERO else layout.photometric
    read = gray if layout.planar else (photometric, layout.bits, layout.extra)
    order = b"II" if page.order == "<" else b"MM"
    if (order, read[0], (_UNSIGNED,), fill_order, *read[1:]) not in OPEN_INFO:
        raise refused


def _first_full_page(data: bytes) -> _Directory:
    order = "<" if data.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    for _ in range(_PAGES):
        page = _directory(data, order, at)
        if _DNG in page.entries or page.value(_PHOTOMETRIC, 0) in (_CFA, _LINEAR_RAW):
            raise UnsupportedImage("a camera raw file (TIFF) is not accepted", reason="variant")
        if not page.value(_SUBFILE, 0) & 0b101 and page.value(_OLD_SUBFILE, 1) != 2:
            return page
        at = page.following
        if at == 0:
            raise UnsupportedImage("a TIFF of thumbnails alone, or of camera raw, is not accepted", reason="variant")
    raise ImageTooLarge(f"the TIFF has more than {_PAGES} thumbnails before its image", reason="pieces")


def _directory(data: bytes, order: str, at: int) -> _Directory:
    (count,) = struct.unpack_from(order + "H", data, at)
    if count > _ENTRIES:
        raise ImageTooLarge(f"the TIFF has more than {_ENTRIES} tags", reason="pieces")
    entries: dict[int, tuple[int, int, int]] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        place = entry + 8
        if values * _SIZES.get(kind, 1) > 4:
            (place,) = struct.unpack_from(order + "I", data, place)
        entries.setdefault(tag, (kind, values, place))
    following = data[at + 2 + 12 * count :][:4]
    return _Directory(data, order, entries, *struct.unpack(order + "I", following.ljust(4, b"\0")))


def _check_tiles(page: _Directory, width: int, height: int) -> None:
    """Raise InvalidImage unless tiles are of a size that the image's own bounds: libtiff makes room for a whole one."""
    if not {_TILES, _TILE_WIDTH, _TILE_LENGTH} & page.entries.keys():  # for libtiff, places may be those of strips
        return
    tile_width, tile_length = page.value(_TILE_WIDTH, 0), page.value(_TILE_LENGTH, 0)
    if not (0 < tile_width <= width + 1024 and 0 < tile_length <= height + 1024):
        raise damaged("TIFF", f"its tiles have {tile_width}x{tile_length} pixels")


def _check_pixels(page: _Directory, layout: _Layout, compression: int, max_pixels: int) -> None:
    """Raise InvalidImage if a strip or tile reaches beyond the file's end, where our own directory will be.

    Raises ImageTooLarge if they are far more bytes than the file has, or too many scans of a JPEG.
    """
    tiled = _TILES in page.entries
    places, sizes = page.values(_TILES if tiled else _STRIPS), page.values(_TILE_BYTES if tiled else _STRIP_BYTES)
    if compression == 1 and layout.photometric != _YCBCR and places:  # by its size, which some writers tell wrongly
        last = max(range(len(places)), key=places.__getitem__)
        size = _bytes_of(page, layout, last)
        end = places[last] + size
    else:
        end, size = max(map(lambda place, size: (place + size, size), places, sizes), default=(0, 0))
        if sum(sizes) > 2 * len(page.data) + _SHARED:
            raise ImageTooLarge("the TIFF has strips or tiles at one place", reason="pieces")
    if end > len(page.data):
        raise damaged("TIFF", f"of {size} bytes of pixels, {end - len(page.data)} are missing")
    if compression == _JPEG:
        if len(sizes) < len(places) or 0 in sizes:  # the decoder takes them to share the file
            places, sizes = (0,), (len(page.data),)
        scans = sum(page.data.count(jpeg.SCAN, place, place + size) for place, size in zip(places, sizes, strict=False))
        rows = page.value(_TILE_LENGTH, 0) if tiled else min(page.value(_ROWS, SIDE), page.value(_LENGTH, 0))
        if scans * page.value(_TILE_WIDTH, page.value(_WIDTH, 0)) * rows > jpeg.SCANNED * max_pixels:
            raise ImageTooLarge(f"the TIFF has {scans} scans, too many for its size", reason="scans")


def _bytes_of(page: _Directory, layout: _Layout, number: int) -> int:
    """What an uncompressed strip or tile has to have."""
    width, height = page.value(_TILE_WIDTH, page.value(_WIDTH, 0)), page.value(_LENGTH, 0)
    if _TILES in page.entries:
        rows = page.value(_TILE_LENGTH, 0)
    else:
        each = max(1, min(page.value(_ROWS, height), height))
        rows = min(each, height - number % -(-height // each) * each)
    return rows * ((width * layout.bits[0] * (1 if layout.planar else layout.samples) + 7) // 8)


def _colours(page: _Directory, bits: int) -> tuple[int, ...]:
    colours = page.values(_COLOURS)
    if len(colours) != 3 * 2**bits:
        raise damaged("TIFF", f"its palette has {len(colours)} values")
    # As libtiff has it: some writers give 8 bits for 16.
    return tuple(level * 257 for level in colours) if max(colours) < 256 else colours


def _plane(page: _Directory, number: int, samples: int) -> bytes:
    """A gray file of one plane."""
    dropped = (_SAMPLES, _EXTRA, _PLANAR, _BITS, _FORMAT, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES)
    tags = {tag: page.entries[tag] for tag in _KEPT if tag in page.entries and tag not in dropped}
    new: dict[int, tuple[int, ...]] = {_PHOTOMETRIC: (_BLACK_IS_ZERO,), _BITS: page.values(_BITS, 1)[:1]}
    for tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES):
        if tag in page.entries:
            chunks = page.values(tag)
            each = len(chunks) // samples
            new[tag] = chunks[number * each : (number + 1) * each]
    return _file(page, tags, new)


def _file(page: _Directory, tags: dict[int, tuple[int, int, int]], new: dict[int, tuple[int, ...]]) -> bytes:
    """The page's file with a directory of these tags, and those with new values, behind everything else."""
    data, order = page.data, page.order
    padding = bytes(len(data) % 2)
    at = len(data) + len(padding)
    entries, values = [], b""
    values_at = at + 2 + 12 * (len(tags) + len(new)) + 4
    for tag in sorted({**tags, **new}):
        if tag in new:
            kind = _SHORT if max(new[tag], default=0) < 2**16 else _LONG
            packed = struct.pack(f"{order}{len(new[tag])}{_FORMATS[kind]}", *new[tag])
            if len(packed) > 4:
                packed, values = struct.pack(order + "I", values_at + len(values)), values + packed
            entries.append(struct.pack(order + "HHI", tag, kind, len(new[tag])) + packed.ljust(4, b"\0"))
        else:
            kind, count, place = tags[tag]
            size = count * _SIZES.get(kind, 1)
            value = data[place : place + 4] if size <= 4 else struct.pack(order + "I", place)
            entries.append(struct.pack(order + "HHI", tag, kind, count) + value)
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4) + values
    return data[:4] + struct.pack(order + "I", at) + data[8:] + padding + directory
