from pathlib import Path

import pytest

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, write_images

EXPECTED = {"images/1.png": "cat", "images/2.png": "dog", "images/3.png": "cat"}


@pytest.mark.parametrize(
    "table",
    [
        "file,label\nimages/1.png,cat\nimages/2.png,dog\nimages/3.png,cat\n",
        "\ufefffile;label\n1.png;cat\n2.png;dog\n3.png;cat\n",
        "image_id,breed\n1,cat\n2,dog\n3,cat\n\n",
        "1.png,cat\n2.png,dog\n3.png,cat\n",
        "width,ClassId,path\n6,cat,C:\\data\\images\\1.png\n6,dog,x/images/2.png\n6,cat,./images/3.png\n",
        "Unnamed: 0,filename,what\n0,1.png,cat\n1,2.png,dog\n2,3.png,cat\n",
    ],
)
def test_a_table_names_the_images_and_their_classes(tmp_path: Path, table: str) -> None:
    write_images(tmp_path, *EXPECTED, text={"labels.csv": table})
    data = open_data(str(tmp_path))
    assert by_name(data.parts["all"]) == EXPECTED
    assert data.layout == "table labels.csv"
    assert by_name(open_data(str(tmp_path / "labels.csv")).parts["all"]) == EXPECTED


def test_json_lines_and_tabs(tmp_path: Path) -> None:
    lines = "".join(f'{{"file_name": "{path}", "label": "{name}"}}\n' for path, name in EXPECTED.items())
    write_images(tmp_path / "json", *EXPECTED, text={"metadata.jsonl": lines})
    rows = "file\tlabel\n" + "".join(f"{path}\t{name}\n" for path, name in EXPECTED.items())
    write_images(tmp_path / "tabs", *EXPECTED, text={"x.tsv": rows})
    for folder in ("json", "tabs"):
        assert by_name(open_data(str(tmp_path / folder)).parts["all"]) == EXPECTED


def test_a_column_or_the_names_of_the_tables_divide(tmp_path: Path) -> None:
    rows = ["file,label,split", "images/1.png,cat,TRAIN", "images/2.png,dog,train", "images/3.png,cat,testing"]
    write_images(tmp_path / "column", *EXPECTED, text={"all.csv": "\n".join(rows)})
    train, test = "id,label\n1,cat\n2,dog\n", "id,label\n3,cat\n"
    files = {"train_labels.csv": train, "test.csv": test, "sample_submission.csv": "id,label\n3,dog\n"}
    write_images(tmp_path / "tables", *EXPECTED, text=files)
    for folder in ("column", "tables"):
        parts = open_data(str(tmp_path / folder)).parts
        assert {part: len(data) for part, data in parts.items()} == {"train": 2, "test": 1}
        assert by_name(parts["test"]) == {"images/3.png": "cat"}


def test_equal_names_are_told_apart_by_their_folder(tmp_path: Path) -> None:
    paths = ("train/1.png", "train/2.png", "test/1.png")
    tables = {"train.csv": "file,label\n1.png,a\n2.png,b\n", "test.csv": "file,label\n1.png,b\n"}
    parts = open_data(str(write_images(tmp_path, *paths, text=tables))).parts
    assert by_name(parts["train"]) == {"train/1.png": "a", "train/2.png": "b"}
    assert by_name(parts["test"]) == {"test/1.png": "b"}


def test_tables_beside_the_images_of_each_part(tmp_path: Path) -> None:
    """As the datasets library has them."""
    paths = ("train/1.png", "train/2.png", "test/1.png")
    tables = {
        "train/metadata.csv": "file_name,label\n1.png,a\n2.png,b\n",
        "test/metadata.csv": "file_name,label\n1.png,b\n",
    }
    data = open_data(str(write_images(tmp_path, *paths, text=tables)))
    assert by_name(data.parts["train"]) == {"train/1.png": "a", "train/2.png": "b"}
    assert by_name(data.parts["test"]) == {"test/1.png": "b"}
    assert data.layout == "table test/metadata.csv, train/metadata.csv"


def test_lists_of_images_in_class_folders(tmp_path: Path) -> None:
    """As Food-101 has them: meta/train.txt with a line "apple_pie/1005649"."""
    paths = [f"images/{name}/{i}.jpg" for name in ("apple_pie", "sushi") for i in (1, 2)]
    lists = {
        "meta/train.txt": "apple_pie/1\nsushi/2\n",
        "meta/test.txt": "sushi/1\napple_pie/2\n",
        "meta/classes.txt": "apple_pie\nsushi\n",
    }
    parts = open_data(str(write_images(tmp_path, *paths, text=lists))).parts
    assert by_name(parts["train"]) == {"images/apple_pie/1.jpg": "apple_pie", "images/sushi/2.jpg": "sushi"}
    assert by_name(parts["test"]) == {"images/sushi/1.jpg": "sushi", "images/apple_pie/2.jpg": "apple_pie"}


def test_a_table_in_a_folder_beside_the_images(tmp_path: Path) -> None:
    text = {"annotations/labels.csv": "file,label\n1.png,cat\n2.png,dog\n3.png,cat\n"}
    write_images(tmp_path, *EXPECTED, text=text)
    for data in (tmp_path, tmp_path / "annotations" / "labels.csv"):
        assert by_name(open_data(str(data)).parts["all"]) == EXPECTED


def test_a_table_without_classes_does_not_hide_class_folders(tmp_path: Path) -> None:
    table = "file,width,height\na/1.png,6,4\nb/1.png,6,4\n"
    data = open_data(str(write_images(tmp_path, "a/1.png", "b/1.png", text={"sizes.csv": table})))
    assert (data.layout, data.classes) == ("a folder a class", ("a", "b"))


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("file,width,height\n1.png,6,4\n2.png,6,4\n", "which column is the class\\? It has width, height"),
        ("file,label\n1.png,cat\n2.png,\n", "row 3 has no label"),
        ("file,label\n1.png,cat\n2.png,dog\n9.png,dog\n", "names 1 images that are not there: 9.png"),
        ("file,label\n1.png,cat\n1.png,dog\n", "names 1 images more than once"),
        ("file,label\n1.png,cat\n2.png,cat\n", "has one class, cat"),
        ("file,label,split\n1.png,cat,train\n2.png,dog,\n", "rows without a split beside rows with one"),
    ],
)
def test_a_wrong_table_gets_its_sentence(tmp_path: Path, table: str, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        open_data(str(write_images(tmp_path, *EXPECTED, text={"labels.csv": table})))
    assert str(tmp_path) in str(error.value)


def test_two_tables_that_both_name_the_images_are_refused(tmp_path: Path) -> None:
    table = "file,label\n1.png,cat\n2.png,dog\n"
    write_images(tmp_path, *EXPECTED, text={"a.csv": table, "b.csv": table})
    with pytest.raises(DataError, match=r"a\.csv, b\.csv all name images; give one of them"):
        open_data(str(tmp_path))
    assert len(open_data(str(tmp_path / "b.csv")).parts["all"]) == 2
