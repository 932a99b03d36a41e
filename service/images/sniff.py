"""What a file is, by its first bytes; of what is not accepted, its name."""

import codecs
import re
import struct

from service.errors import UnsupportedImage

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

# Brands of ISO/IEC 14496-12 files.
_AVIF, _AVIF_SEQUENCE = {b"avif"}, {b"avis"}
_HEIC = {b"heic", b"heix", b"heim", b"heis"}
_BRANDS = {
    **dict.fromkeys((b"hevc", b"hevx", b"msf1"), "a HEIF image sequence"),
    **dict.fromkeys((b"mif1", b"mif2"), "a HEIF image of another codec"),
    **dict.fromkeys((b"crx ",), "a camera raw file (CR3)"),
    **dict.fromkeys((b"jp2 ", b"jpx ", b"jpm "), "JPEG 2000"),
    **dict.fromkeys((b"jxl ",), "JPEG XL"),
    **dict.fromkeys((b"qt  ",), "a QuickTime film"),
}

# Beginnings of what else is sent, in the order in which they are tried.
_NAMES: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II\xbc", "JPEG XR"),
    (b"8BPS", "a Photoshop document (PSD)"),
    (b"\0\0\1\0", "a Windows icon (ICO)"),
    (b"\0\0\2\0\0\0\0\0", "a TARGA image (TGA)"),
    (b"\0\0\n\0\0\0\0\0", "a TARGA image (TGA)"),
    (b"\0\0\2\0", "a Windows cursor (CUR)"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"II+\0", "BigTIFF"),
    (b"MM\0+", "BigTIFF"),
    (b"IIRO", "a camera raw file (ORF)"),
    (b"IIRS", "a camera raw file (ORF)"),
    (b"MMOR", "a camera raw file (ORF)"),
    (b"IIU\0", "a camera raw file (RW2)"),
    (b"FUJIFILMCCD-RAW", "a camera raw file (RAF)"),
    (b"\0MRM", "a camera raw file (MRW)"),
    (b"FOVb", "a camera raw file (X3F)"),
    (b"BPG\xfb", "BPG"),
    (b"FLIF", "FLIF"),
    (b"qoif", "QOI"),
    (b"farbfeld", "farbfeld"),
    (b"DDS ", "DDS"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"#?RGBE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
    (b"gimp xcf", "a GIMP image (XCF)"),
    (b"AT&TFORM", "DjVu"),
    (b"\xd7\xcd\xc6\x9a", "a Windows metafile"),
    (b"icns", "an Apple icon"),
    (b"\x1f\x8b", "gzip data without the header Content-Encoding: gzip"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data"),
    (b"\x93NUMPY", "a NumPy array (NPY)"),
    (b"\x80\x04\x95", "a Python pickle"),
    (b"\x80\x05\x95", "a Python pickle"),
    (b"\x89HDF", "HDF5"),
    (b"PAR1", "a Parquet file"),
    (b"PK\3\4", "a ZIP archive"),
    (b"Rar!", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"BZh", "bzip2 data"),
    (b"\xfd7zXZ\0", "xz data"),
    (b"\x1aE\xdf\xa3", "a Matroska or WebM film"),
    (b"OggS", "Ogg"),
    (b"ID3", "MP3"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG", "a PNG that was transferred as text, which changed its line ends"),
    (b"--", "a multipart form without the header Content-Type: multipart/form-data"),
)
_SHOWN = 40  # characters of a text that is none of these
_REPLACED = b"\xef\xbf\xbd"  # U+FFFD in UTF-8
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"<(!doctype )?html|<head|<body", re.I), "an HTML page"),
    # Behind comments and declarations; of the two kinds of steps only one fits anywhere, so that none is tried twice.
    (re.compile(rb"<svg|<\?xml(?:[^<]|<[^a-z])*<svg", re.I), "SVG"),
    (re.compile(rb"<\?xml|<[a-z]+[^>]*>", re.I), "XML"),
    (re.compile(rb'[{\[]\s*(["{\[\]}0-9-]|true|false|null)'), "JSON"),
    (re.compile(rb'"?data:[a-z]+/[a-z.+-]+[;,]', re.I), "a data URL as text"),
    (
        re.compile(rb'"?(/9j/|iVBORw0KGg|R0lGOD|UklGR[g-v]|Qk[0-3]|SUkqA|TU0AK|AAAA[A-Z0-9a-z+/]{1,3}Z0eX)'),
        "an image in base64, as text",
    ),
    (re.compile(rb"b['\"]\\x|\\x89PNG|\\xff\\xd8"), "the printed form of bytes"),
    (re.compile(rb"(0x)?(ffd8ff|89504e47|47494638|52494646)", re.I), "an image in hexadecimal, as text"),
    (re.compile(rb"https?://", re.I), "a URL; the image itself is wanted"),
    (re.compile(rb"P[1-7]\s"), "a Netpbm image (PBM, PGM, PPM)"),
    (re.compile(rb"\0{128}DICM"), "DICOM"),
)
# UTF-8 of PNG, also as Windows-1252, and of JPEG read as Latin-1.
_ENCODED_TWICE = (b"\xc2\x89PNG", b"\xe2\x80\xb0PNG", b"\xc3\xbf\xc3\x98")


def accepted(data: bytes, formats: tuple[str, ...]) -> str:
    """The one of `formats` that `data` begins like.

    Raises UnsupportedImage, with the name of what it begins like instead where that can be told.
    """
    for format_, signature in _SIGNATURES:
        if data.startswith(signature):
            if format_ == "BMP" and data[14:18] not in _BMP_HEADERS:
                break  # a text that begins with BM
            return format_
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp" and len(data) >= 12:
        return _of_brands(data, formats)
    raise refusal(_name(data), formats)


def refusal(name: str | None, formats: tuple[str, ...], reason: str | None = None) -> UnsupportedImage:
    """The error that names what came."""
    told = f" but {name}" if name else ""
    return UnsupportedImage(f"not an accepted image format{told}; accepted: {', '.join(formats)}", reason=reason)


def _of_brands(data: bytes, formats: tuple[str, ...]) -> str:
    (size,) = struct.unpack_from(">I", data)
    major = data[8:12]
    brands = {major, *(data[i : i + 4] for i in range(16, min(size, 256), 4))}
    if brands & _AVIF and "AVIF" in formats:
        return "AVIF"
    if brands & _AVIF_SEQUENCE and "AVIF" in formats:
        raise UnsupportedImage("the AVIF image sequence has no still image beside it", reason="sequence")
    if brands & _HEIC and "HEIC" in formats:
        return "HEIC"
    if brands & (_AVIF | _AVIF_SEQUENCE | _HEIC):
        raise refusal("HEIC" if brands & _HEIC else "AVIF", formats)
    raise refusal(_BRANDS.get(major, "a film (MP4)"), formats)


def _name(data: bytes) -> str | None:
    for signature, name in _NAMES:
        if data.startswith(signature):
            return name
    start = data[:1024]
    if start.startswith(_ENCODED_TWICE) or _REPLACED in start[:16]:
        return "bytes that were read as text and written as UTF-8, which destroyed them"
    if data[:4] == b"RIFF":
        return {b"WAVE": "a WAVE sound", b"AVI ": "an AVI film"}.get(data[8:12], "another RIFF file")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.strip(b"\0"):
        return "nothing but zeros or white space"
    return next((name for pattern, name in _TEXTS if pattern.match(text)), None) or _beginning(start)


def _beginning(start: bytes) -> str | None:
    """Of a text, such as an error's or the name of a file, what it begins with."""
    encoding = "utf-16" if start.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:  # the last character may be cut off
        text = codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeDecodeError:
        return None
    words = " ".join(text.split())
    return f"a text that begins {words[:_SHOWN]!r}" if words and words.isprintable() else None
