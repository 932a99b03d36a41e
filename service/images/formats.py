"""The accepted formats: those whose decoders are installed."""

from importlib.util import find_spec

from PIL import features

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(["AVIF"] if features.check("avif") else []),
    *(["HEIC"] if find_spec("pillow_heif") else []),  # the extra `heic`
)
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "TIFF": (".tif", ".tiff"),
    "HEIC": (".heic", ".heif"),
}
# By which image files are found in a folder, in lower case; what they hold is seen when they are decoded.
SUFFIXES = frozenset(suffix for name in FORMATS for suffix in _SUFFIXES.get(name, (f".{name.lower()}",)))
