from pathlib import Path

import pytest
from PIL import Image

from model_export.bundles.samples import photograph_like
from tests.doubles import encode


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """40 images, in folders."""
    folder = tmp_path / "images"
    for index in range(40):
        (folder / f"class-{index % 5}").mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(photograph_like(index, 40, 30))
        (folder / f"class-{index % 5}" / f"{index}.png").write_bytes(encode(image, "PNG"))
    (folder / "notes.txt").write_text("no image")
    return folder
