import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import colour, encoded


def write(
    path: Path, labels: list[Any], image: str = "image", names: list[str] | None = None, **more: list[Any]
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": encoded(f"{path.name}{i}"), "path": f"{i}.png"} for i in range(len(labels))]
    table = pa.table({image: images, "label": labels, **more})
    if names:
        features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, path)


def test_shards_of_the_hub(tmp_path: Path) -> None:
    names = ["cat", "dog", "cow"]
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [2, 0], names=names)
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [1], names=names)
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", [1, 1], names=names)
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [-1], names=names)
    data = open_data(str(tmp_path))
    assert data.classes == ("cat", "dog", "cow")
    assert [list(data.parts[part].labels) for part in ("train", "val")] == [[2, 0, 1], [1, 1]]
    assert data.parts["train"].load(1).getpixel((0, 0)) == colour("train-00000-of-00002.parquet1")
    assert data.parts["train"].load(2).getpixel((0, 0)) == colour("train-00001-of-00002.parquet0")
    assert data.notes == ("the test part has no labels",)


def test_a_number_is_one_class_whatever_it_is_called(tmp_path: Path) -> None:
    names = ["hot", "dog", "hot dog"]
    write(tmp_path / "numbers.parquet", [0, 1, 2], names=names)
    assert open_data(str(tmp_path / "numbers.parquet")).classes == tuple(names)
    write(tmp_path / "texts.parquet", names)
    with pytest.raises(DataError, match="'hot dog' names several of the classes"):
        open_data(str(tmp_path / "texts.parquet"))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(["dog", "cat", "dog"], ("cat", "dog")), ([10, 2, 10], ("2", "10")), ([5, 3, 3], ("3", "5"))],
)
def test_labels_without_names(tmp_path: Path, labels: list[Any], classes: tuple[str, ...]) -> None:
    write(tmp_path / "images.parquet", labels, image="img")
    data = open_data(str(tmp_path / "images.parquet"))
    assert data.classes == classes
    assert [classes[label] for label in data.parts["all"].labels] == list(map(str, labels))


def test_wrong_parquet_gets_its_sentence(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has the columns text, label; none of them is called image or img"):
        open_data(str(tmp_path))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match=r"a\.parquet: is damaged"):
        open_data(str(tmp_path))
    write(tmp_path / "a.parquet", [7, 0], names=["cat", "dog"])
    with pytest.raises(DataError, match="a label is none of the 2 classes"):
        open_data(str(tmp_path))
