"""Small image files, each of a colour that follows from its path, and other files."""

import io
import zlib
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from model_export.datasets.dataset import Dataset
from model_export.datasets.image_folder import is_image


def encoded(name: str, format_: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour(name)).save(file, format_)
    return file.getvalue()


def colour(name: str) -> tuple[int, int, int]:
    red, green, blue, _ = zlib.crc32(name.encode()).to_bytes(4, "big")
    return red, green, blue


def write_images(folder: Path, *paths: str, text: Mapping[str, str] | None = None) -> Path:
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(path) if is_image(path) else b"no image")
    for path, content in (text or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


def by_name(data: Dataset) -> dict[str, str]:
    """Every image's class, by the image's name."""
    return {data.name(index): data.classes[data.labels[index]] for index in range(len(data))}
