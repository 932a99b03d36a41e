"""Where the numbers of an image file's headers are: sizes, counts, depths, offsets, as its format's standard says."""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

Order = Literal["big", "little"]

PNG_START = b"\x89PNG\r\n\x1a\n"
_MOST = 200  # chunks, segments or entries that are followed


class Field(NamedTuple):
    """A number of so many bytes at this place."""

    at: int
    size: int
    order: Order


def fields(data: bytes) -> list[Field]:
    """Those that lie within the file; none of a format that is not known here."""
    found = next((read(data) for start, read in _FORMATS if start(data)), iter(()))
    return [field for field in found if 0 <= field.at <= len(data) - field.size]


def _png(data: bytes) -> Iterator[Field]:
    """A chunk's length, and IHDR's width, height, depth, colour, compression, filter, interlace (ISO 15948, 11.2.1)."""
    for at in follow(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4], "big")):
        yield Field(at, 4, "big")
        if data[at + 4 : at + 8] == b"IHDR":
            yield from (Field(at + 8, 4, "big"), Field(at + 12, 4, "big"))
            yield from (Field(at + 16 + offset, 1, "big") for offset in range(5))
        elif data[at + 4 : at + 8] in (b"acTL", b"fcTL"):  # an animation's frames, and one frame's place and size
            yield from (Field(at + 8 + offset, 4, "big") for offset in range(0, 24, 4))


def _jpeg(data: bytes) -> Iterator[Field]:
    """A segment's length; of a frame or scan header the fields behind it (ITU-T T.81, B.2.2 and B.2.3)."""
    for at in follow(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4], "big")):
        yield Field(at + 2, 2, "big")
        marker = data[at + 1 : at + 2]
        if marker in (b"\xc0", b"\xc1", b"\xc2"):  # precision, lines, samples a line, components, and each one's three
            yield from (Field(at + 4, 1, "big"), Field(at + 5, 2, "big"), Field(at + 7, 2, "big"))
            yield from (Field(at + 9 + offset, 1, "big") for offset in range(10))
        elif marker in (b"\xc4", b"\xda", b"\xdb", b"\xdd"):  # tables, scan, restart interval
            yield from (Field(at + 4 + offset, 1, "big") for offset in range(18))


def _gif(data: bytes) -> Iterator[Field]:
    """The screen's, and the first frame's place, size and flags (GIF89a, sections 18 and 20)."""
    yield from (Field(6, 2, "little"), Field(8, 2, "little"), Field(10, 1, "little"))
    frame = data.find(b",", 13)
    yield from (Field(frame + 1 + offset, 2, "little") for offset in range(0, 8, 2))
    yield from (Field(frame + 9, 1, "little"), Field(frame + 10, 1, "little"))


def _webp(data: bytes) -> Iterator[Field]:
    """A chunk's length, and the sizes in its first bytes (RFC 9649, section 2)."""
    yield Field(4, 4, "little")
    for at in follow(data, 12, lambda at: 8 + (int.from_bytes(data[at + 4 : at + 8], "little") + 1) // 2 * 2):
        yield Field(at + 4, 4, "little")
        yield from (Field(at + 8 + offset, size, "little") for offset, size in ((0, 1), (1, 4), (4, 3), (6, 2), (7, 3)))


def _tiff(data: bytes) -> Iterator[Field]:
    """Each entry's tag, type, count and value, of every directory in the chain (TIFF 6.0, section 2)."""
    order: Order = "little" if data.startswith(b"II") else "big"
    yield Field(4, 4, order)
    directory = int.from_bytes(data[4:8], order)
    for _ in range(4):
        yield Field(directory, 2, order)
        entries = min(_MOST, int.from_bytes(data[directory : directory + 2], order))
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            yield from (Field(at, 2, order), Field(at + 2, 2, order), Field(at + 4, 4, order), Field(at + 8, 4, order))
        directory = int.from_bytes(data[directory + 2 + 12 * entries : directory + 6 + 12 * entries], order)
        if not 0 < directory < len(data):
            return


def _avif(data: bytes) -> Iterator[Field]:
    """A box's length, and what follows the names of those that count and measure (ISO 14496-12, 8.11)."""
    yield from (Field(at, 4, "big") for at in follow(data, 0, lambda at: int.from_bytes(data[at : at + 4], "big")))
    for name in (b"iloc", b"iinf", b"infe", b"ipma", b"ispe", b"pixi", b"av1C", b"iref", b"pitm"):
        at = data.find(name)
        if at >= 4:
            yield Field(at - 4, 4, "big")
            yield from (Field(at + 4 + offset, 4, "big") for offset in range(0, 12, 4))
            yield from (Field(at + 8 + offset, 2, "big") for offset in range(0, 16, 2))


def _bmp(data: bytes) -> Iterator[Field]:
    """The file's and the bitmap's (Windows BITMAPINFOHEADER)."""
    yield from (Field(at, 4, "little") for at in (2, 10, 14, 18, 22, 30, 34, 46))
    yield from (Field(at, 2, "little") for at in (26, 28))


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[Field]]], ...] = (
    (lambda data: data.startswith(PNG_START), _png),
    (lambda data: data.startswith(b"\xff\xd8"), _jpeg),
    (lambda data: data.startswith(b"GIF8"), _gif),
    (lambda data: data[8:12] == b"WEBP", _webp),
    (lambda data: data[:2] in (b"II", b"MM"), _tiff),
    (lambda data: data[4:8] == b"ftyp", _avif),
    (lambda data: data.startswith(b"BM"), _bmp),
)


def follow(data: bytes, start: int, length: Callable[[int], int]) -> list[int]:
    """Where chunks, segments or boxes begin, each as long as `length` says of its place."""
    starts: list[int] = []
    while start < len(data) and len(starts) < _MOST:
        starts.append(start)
        start += max(1, length(start))
    return starts
