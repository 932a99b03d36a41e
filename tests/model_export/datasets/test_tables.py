import json
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
        'file,label\n1.png," cat"\n2.png,"dog\n"\n3.png,cat\n',
    ],
)
def test_a_table_names_the_images_and_their_classes(tmp_path: Path, table: str) -> None:
    write_images(tmp_path, *EXPECTED, text={"labels.csv": table})
    data = open_data(str(tmp_path))
    assert by_name(data.parts["all"]) == EXPECTED
    assert data.layout.startswith("table labels.csv, classes by ")
    assert by_name(open_data(str(tmp_path / "labels.csv")).parts["all"]) == EXPECTED


def test_json_lines_and_tabs(tmp_path: Path) -> None:
    lines = "".join(f'{{"file_name": "{path}", "label": "{name}"}}\n' for path, name in EXPECTED.items())
    write_images(tmp_path / "json", *EXPECTED, text={"metadata.jsonl": lines})
    rows = "file\tlabel\n" + "".join(f"{path}\t{name}\n" for path, name in EXPECTED.items())
    write_images(tmp_path / "tabs", *EXPECTED, text={"x.tsv": rows})
    for folder in ("json", "tabs"):
        assert by_name(open_data(str(tmp_path / folder)).parts["all"]) == EXPECTED


@pytest.mark.parametrize(
    "told",
    [
        EXPECTED,
        {path.rpartition("/")[2].removesuffix(".png"): name for path, name in EXPECTED.items()},
        {path: {"width": 6, "label": name} for path, name in EXPECTED.items()},
        [{"file_name": path, "label": name, "objects": [1]} for path, name in EXPECTED.items()],
    ],
    ids=str,
)
def test_json_in_its_usual_forms(tmp_path: Path, told: object) -> None:
    write_images(tmp_path, *EXPECTED, text={"labels.json": json.dumps(told)})
    assert by_name(open_data(str(tmp_path)).parts["all"]) == EXPECTED


def test_json_that_is_no_table_is_passed_over(tmp_path: Path) -> None:
    coco = {"images": [{"id": 1, "file_name": "1.png"}], "categories": [{"id": 1, "name": "cat"}]}
    text = {"coco.json": json.dumps(coco), "a/1.json": '{"label": "x", "file": "1.png"}'}
    text |= {f"{i}.json": json.dumps({"label": "x", "file": f"{i}.png"}) for i in range(3)}
    write_images(tmp_path, "a/1.png", "b/2.png", "0.png", text=text)
    assert open_data(str(tmp_path)).classes == ("a", "b")


@pytest.mark.parametrize("label", [["cat", "dog"], None, {"id": 1}], ids=str)
def test_a_label_that_is_several_or_none_is_refused(tmp_path: Path, label: object) -> None:
    rows = [json.dumps({"file_name": "1.png", "label": "cat"}), json.dumps({"file_name": "2.png", "label": label})]
    write_images(tmp_path, *EXPECTED, text={"metadata.jsonl": "\n".join(rows)})
    with pytest.raises(DataError, match="row 2 has no single label"):
        open_data(str(tmp_path))


def test_labels_that_are_numbers_are_not_taken_for_the_names_of_images(tmp_path: Path) -> None:
    rows = "".join(f"{number % 3},{number}\n" for number in range(12))
    write_images(tmp_path, *[f"images/{number}.png" for number in range(12)], text={"train.csv": f"label,id\n{rows}"})
    named = by_name(open_data(str(tmp_path)).parts["train"])
    assert named == {f"images/{number}.png": str(number % 3) for number in range(12)}


def test_a_list_of_the_classes_is_no_table_of_images(tmp_path: Path) -> None:
    images = [f"{name}/{number + first}.png" for first, name in ((0, "cat"), (30, "dog")) for number in range(30)]
    for table in ({"classes.json": '{"0": "tom", "1": "rex"}'}, {"labels.csv": "id,label\n0,tom\n1,rex\n"}):
        data = open_data(str(write_images(tmp_path / next(iter(table)), *images, text=table)))
        assert data.classes == ("cat", "dog")


def test_a_form_to_fill_in_and_a_table_without_classes_are_left_out(tmp_path: Path) -> None:
    """As Kaggle has them: equal names in train/ and test/, and a made-up label for every test image."""
    paths = [f"{part}/{number}.png" for part in ("train", "test") for number in (1, 2)]
    text = {"trainLabels.csv": "id,label\n1,frog\n2,truck\n", "sampleSubmission.csv": "id,label\n1,cat\n2,dog\n"}
    text |= {"test.csv": "id,width\n1,6\n2,6\n"}
    data = open_data(str(write_images(tmp_path, *paths, text=text)))
    assert by_name(data.parts["train"]) == {"train/1.png": "frog", "train/2.png": "truck"}
    assert list(data.parts) == ["train"]
    assert "test.csv names no classes and is not used" in data.notes


def test_a_guessed_column_does_not_overrule_class_folders(tmp_path: Path) -> None:
    table = "file,blurred\na/1.png,yes\nb/2.png,no\n"
    write_images(tmp_path, "a/1.png", "b/2.png", text={"quality.csv": table})
    with pytest.raises(DataError, match="classes by blurred has no, yes, the folders a, b; name the table itself"):
        open_data(str(tmp_path))
    assert open_data(str(tmp_path / "quality.csv")).classes == ("no", "yes")
    assert open_data(str(tmp_path), splits=False).classes == ("a", "b")


def test_an_image_in_two_parts_is_refused(tmp_path: Path) -> None:
    tables = {"train.csv": "file,label\n1.png,a\n2.png,b\n", "test.csv": "file,label\n2.png,b\n"}
    with pytest.raises(DataError, match=r"2\.png is in two parts"):
        open_data(str(write_images(tmp_path, "1.png", "2.png", text=tables)))


def test_a_column_of_true_and_false_divides(tmp_path: Path) -> None:
    table = "file,label,is_valid\n1.png,cat,False\n2.png,dog,0\n3.png,cat,True\n"
    parts = open_data(str(write_images(tmp_path, *EXPECTED, text={"labels.csv": table}))).parts
    assert {part: len(data) for part, data in parts.items()} == {"train": 2, "val": 1}


def test_of_numbered_divisions_the_first_is_taken(tmp_path: Path) -> None:
    """As DTD has them, in a folder around everything; a class is its folder, however deep (SUN397)."""
    paths = [f"images/{name}/{i}.jpg" for name in ("a/shop", "b/shop") for i in range(4)]
    lists = {
        f"labels/{part}{n}.txt": "".join(f"{name}/{(first + n) % 4}.jpg\n" for name in ("a/shop", "b/shop"))
        for n in (1, 2, 10)
        for first, part in enumerate(("train", "val", "test"))
    }
    data = open_data(str(write_images(tmp_path / "dtd", *paths, text=lists).parent))
    assert by_name(data.parts["val"]) == {f"images/{name}/2.jpg": name for name in ("a/shop", "b/shop")}
    assert {part: len(images) for part, images in data.parts.items()} == {"train": 2, "val": 2, "test": 2}
    assert "of the 3 divisions the first is taken" in data.notes


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
    assert data.layout == "table test/metadata.csv, train/metadata.csv, classes by label"


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
        ("file,label\n1.png,cat\n2.png,\n", "row 3 has no single label"),
        ("file,label\n1.png,cat\n2.png,dog\n9.png,dog\n", "names 1 images that are not there: 9.png"),
        ("file,label\n1.png,cat\n1.png,dog\n", "names 1 images more than once"),
        ("file,label\n1.png,cat\n2.png,cat\n", "has one class, cat"),
        ("file,label,split\n1.png,cat,train\n2.png,dog,\n", "rows without a split beside rows with one"),
        ("file,label,is_valid\n1.png,cat,maybe\n2.png,dog,True\n", "row 2, is_valid is 'maybe', neither true nor"),
        ("file,age\n1.png,20.5\n2.png,21\n3.png,30\n", r"20.5, 21, 30, ... are measurements and no classes"),
        ("file,label\n1.png,cat\n2.png,Cat\n3.png,dog\n", "Cat and cat are spelt differently"),
        (
            "file,label\n1.png,cat\n2.png,cat|dog\n3.png,dog\n",
            "'cat|dog' names several of the classes, and an image has one",
        ),
        (
            "file,label\n1.png,cat\n2.png,cat dog\n3.png,dog\n",
            "'cat dog' names several of the classes, .* call it 'cat_dog'",
        ),
        ("file,tags\n1.png,cat wild\n2.png,dog\n3.png,cat\n", r"which column is the class\? It has tags"),
        ("file,cat,dog\n1.png,1,0\n2.png,0,1\n3.png,1,0\n", r"which column is the class\? It has cat, dog"),
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
