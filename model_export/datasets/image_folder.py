"""A folder of images, a folder a class."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from model_export.datasets.dataset import DataError
from service.errors import ServiceError
from service.images.decode import decode

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
_MAX_PIXELS = 100_000_000  # an image beyond this is a mistake or a bomb


class ImageFolder:
    """FOLDER/<class>/ with image files at any depth; hidden files and files of other kinds are passed over."""

    def __init__(self, folder: Path, classes: tuple[str, ...] | None = None) -> None:
        """Raises DataError for a folder without images, or with a class that is not in `classes` where given."""
        found = tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name[0] != "."))
        if not found:
            raise DataError(f"{folder}: holds no folders; a folder a class is needed, named after it")
        if classes is not None and (unknown := sorted(set(found) - set(classes))):
            raise DataError(f"{folder}: has classes that training has not: {', '.join(unknown[:5])}")
        self.classes = classes or found
        files = [(path, self.classes.index(name)) for name in found for path in image_files(folder / name)]
        if not files:
            raise DataError(f"{folder}: holds no images ({', '.join(sorted(_SUFFIXES))})")
        if empty := sorted(set(found) - {self.classes[label] for _, label in files}):
            raise DataError(f"{folder}: no images in {', '.join(f'{name}/' for name in empty[:5])}")
        self.paths = tuple(path for path, _ in files)
        self.labels: Sequence[int] = tuple(label for _, label in files)

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        """Decoded as the service does: every format it accepts, EXIF orientation applied."""
        try:
            return decode(self.paths[index].read_bytes(), _MAX_PIXELS)[0]
        except (ServiceError, OSError) as error:
            raise DataError(f"{self.paths[index]}: {error}") from None

    def name(self, index: int) -> str:
        """The file's name."""
        return self.paths[index].name


def image_files(folder: Path) -> Iterator[Path]:
    """Image files at any depth, in the order of their names; hidden files and other kinds are passed over."""
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.name[0] != "." and path.is_file():
            yield path
