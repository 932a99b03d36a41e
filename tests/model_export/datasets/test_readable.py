from pathlib import Path

import pytest

from model_export.datasets.data import DataError, open_data
from model_export.datasets.readable import without_unreadable
from tests.model_export.datasets.images import write_images


def test_every_unreadable_image_is_named_at_once_or_left_out(tmp_path: Path) -> None:
    write_images(tmp_path, *[f"{name}/{i}.png" for name in ("cat", "dog") for i in range(4)])
    for broken in ("cat/1.png", "dog/2.png"):
        (tmp_path / broken).write_bytes(b"no image")
    data = open_data(str(tmp_path))
    for most in (0, 1):
        with pytest.raises(DataError, match=r"2 images cannot be read: .*cat/1\.png.*dog/2\.png.*--skip-unreadable 2"):
            without_unreadable(data, most)
    left = without_unreadable(data, 2)
    assert [left.parts["all"].name(index) for index in range(6)] == [
        *(f"cat/{i}.png" for i in (0, 2, 3)),
        *(f"dog/{i}.png" for i in (0, 1, 3)),
    ]
    assert left.notes[-1] == "2 unreadable images are left out"
