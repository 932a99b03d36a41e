"""What is sent: the repository's own images, or a folder's."""

import io
from pathlib import Path

from benchmarks.photograph import photograph

_DIGITS = Path(__file__).parent.parent.parent / "models" / "digits" / "1" / "golden"
_PHOTOGRAPHS = 8
_PHOTOGRAPH_SIZE = (500, 375)  # ImageNet's most frequent

SETS = ("digits", "photographs")


def read_images(source: str) -> list[bytes]:
    """Encoded images: `digits` (the embedded model's), `photographs` (synthetic 500x375 JPEGs), or a folder's by name.

    Raises ValueError for a folder that has no files, or is none.
    """
    if source == "photographs":
        return [_jpeg(seed) for seed in range(_PHOTOGRAPHS)]
    folder = _DIGITS if source == "digits" else Path(source)
    if not folder.is_dir():
        raise ValueError(f"images {source!r}: neither {' nor '.join(SETS)} nor a folder")
    images = [path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file() and path.suffix != ".npy"]
    if not images:
        raise ValueError(f"images {source!r}: the folder has no files")
    return images


def _jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    photograph(*_PHOTOGRAPH_SIZE, seed).save(file, "JPEG", quality=90)
    return file.getvalue()
