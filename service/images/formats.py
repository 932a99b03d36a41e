"""The accepted formats: those whose decoders are installed."""

from importlib.util import find_spec

from PIL import features

FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"),
    *(["AVIF"] if features.check("avif") else []),
    *(["HEIC"] if find_spec("pillow_heif") else []),  # the extra `heic`
)
