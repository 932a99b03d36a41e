"""What an encoded image may ask of its decoder: the format by its first bytes, and bounds on the work behind them."""

import io
import struct
import zlib

from PIL import AvifImagePlugin, Image, features
from PIL.JpegImagePlugin import JpegImageFile

from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.images.avif import coded_pixels

# Leading bytes of the accepted formats. A file is what it starts with, whatever it is called.
_SIGNATURES = (
    ("JPEG", b"\xff\xd8\xff"),
    ("PNG", b"\x89PNG\r\n\x1a\n"),
    ("GIF", b"GIF87a"),
    ("GIF", b"GIF89a"),
    ("BMP", b"BM"),
    ("TIFF", b"II*\x00"),
    ("TIFF", b"MM\x00*"),
)
_BMP_HEADERS = [struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124)]  # their lengths say which
_HAS_AVIF = features.check("avif")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", *(["AVIF"] if _HAS_AVIF else []))

# The decode pool is the parallelism, within the budget of cores.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_HEADER_BYTES = 4 * 2**20  # for colour profiles, which may have 3 MB
_UNBOUNDED = 2**63
_READS = 20_000  # besides those that a long file needs
_BYTES_PER_READ = 256  # a PNG's chunks mostly have 8 kB, each read in three pieces
_JPEG_HEADER_READS = 4_000  # four a segment; Pillow copies all of the EXIF for every segment of it
_INFLATED_CHUNKS = 64  # of a PNG; each of a kilobyte may become a megabyte
_SCANS = 100  # of a JPEG, libtiff's limit too; a progressive photograph has 10
_SCANNED = 20  # times MAX_PIXELS that the scans of one JPEG may visit
_CODED = 8  # times its pixels in one AVIF's streams, and a million: colours, alpha, thumbnail, tiles that overhang
# Everyday TIFF. Old-style JPEG, LZMA, ZSTD, WebP and the rest bring decoders with allocations of their own.
_TIFF_COMPRESSIONS = (
    *("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"),
    *("tiff_ccitt", "group3", "group4"),
)


# Floating point, signed and 32-bit samples, Lab and HSV say nothing of black and white that could be relied on.
_MODES = {
    *("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"),
    *("I", "I;16", "I;16B", "I;16L", "I;16N"),
}


class BoundedReader(io.BytesIO):
    """The file as Pillow's parsers, which are Python, see it: so many pieces of it, and so long a header, and no more.

    Raises ImageTooLarge from `read`, which Pillow passes on.
    """

    def __init__(self, data: bytes, format_: str) -> None:
        super().__init__(data)
        self._reads = _READS + len(data) // _BYTES_PER_READ
        self._reads_left = _JPEG_HEADER_READS if format_ == "JPEG" else self._reads
        # WebP and AVIF are handed to their libraries whole.
        self._bytes_left = _UNBOUNDED if format_ in ("WEBP", "AVIF") else _HEADER_BYTES

    def header_is_read(self) -> None:
        """Let the pixels be read, however many bytes they have."""
        self._reads_left = self._reads
        self._bytes_left = _UNBOUNDED

    def read(self, size: int | None = -1, /) -> bytes:
        """`io.BytesIO.read`, bounded."""
        data = super().read(size)
        self._reads_left -= 1
        self._bytes_left -= len(data)
        if self._reads_left < 0:
            raise ImageTooLarge("the image is in too many pieces", reason="pieces")
        if self._bytes_left < 0:
            raise ImageTooLarge(f"the image has more than {_HEADER_BYTES} bytes of metadata", reason="metadata")
        return data


def sniff(data: bytes) -> str:
    """The accepted format that `data` begins like; raises UnsupportedImage."""
    for format_, signature in _SIGNATURES:
        if data.startswith(signature):
            if format_ == "BMP" and data[14:18] not in _BMP_HEADERS:
                break  # a text that begins with BM
            return format_
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if _HAS_AVIF and data[4:8] == b"ftyp":
        (size,) = struct.unpack_from(">I", data)
        brands = [data[i : i + 4] for i in range(8, min(size, 256), 4)]
        if b"avif" in brands:
            return "AVIF"
        if b"avis" in brands:
            raise UnsupportedImage("the AVIF image sequence has no still image beside it", reason="sequence")
    raise UnsupportedImage(f"not an accepted image format; accepted: {', '.join(FORMATS)}")


def check_chunks(data: bytes) -> None:
    """Raise ImageTooLarge if a PNG has more compressed metadata than any needs: Pillow inflates all of it.

    Raise InvalidImage if pixels are damaged: theirs are the only checksums that Pillow does not look at.
    """
    file, at, inflated = memoryview(data), 8, 0
    for _ in range(_READS + len(data) // _BYTES_PER_READ):  # of more chunks, Pillow will not read all
        if at >= len(data):
            break
        name, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4], "big")
        if name == b"IDAT" and zlib.crc32(file[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise InvalidImage("the PNG data is truncated or damaged")
        if name == b"IEND":
            break
        inflated += name in (b"iCCP", b"zTXt", b"iTXt")
        at = end + 4
    if inflated > _INFLATED_CHUNKS:
        raise ImageTooLarge(f"the PNG has more than {_INFLATED_CHUNKS} chunks of metadata", reason="metadata")


def check_work(data: bytes, format_: str, image: Image.Image, header_bytes: int, max_pixels: int) -> None:
    """Raise ImageTooLarge or UnsupportedImage if decoding would be more work than the image's pixels, which fit, tell.

    `image` is opened and not loaded, for which its first `header_bytes` were read.
    """
    pixels = image.width * image.height
    if isinstance(image, JpegImageFile):
        scans = _scans(data, image, header_bytes)
        if scans > _SCANS or scans * pixels > _SCANNED * max_pixels:
            raise ImageTooLarge(f"the JPEG has {scans} scans, too many for its size", reason="scans")
    if format_ == "AVIF" and coded_pixels(data) > min(_CODED * pixels + 2**20, 3 * max_pixels):
        raise ImageTooLarge("the AVIF holds more pixels than it announces", reason="pixels")
    compression = image.info.get("compression")
    if format_ == "TIFF" and compression not in _TIFF_COMPRESSIONS:
        raise UnsupportedImage(f"TIFF compression {compression} is not accepted", reason="compression")
    if image.mode not in _MODES or (image.mode == "I" and format_ != "PNG"):
        raise UnsupportedImage(f"images of {image.mode} samples are not accepted", reason="samples")
    # Decoded in Python, a byte at a time: minutes for a file of a few bytes.
    if format_ == "BMP" and compression in (1, 2):
        raise UnsupportedImage("a run-length encoded BMP is not accepted", reason="compression")


def _scans(data: bytes, image: JpegImageFile, header_bytes: int) -> int:
    """At least as many as there are. The pixels are looked through only if the first scan does not hold them all."""
    first = header_bytes - 8 - 2 * image.layers  # where a scan of all components begins that ends the header
    if "progressive" not in image.info and first > 0 and data.startswith(b"\xff\xda", first):
        return 1
    return data.count(b"\xff\xda\0")
