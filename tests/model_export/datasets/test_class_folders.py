from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, colour, write_images


def test_a_folder_without_division_is_one_part(tmp_path: Path) -> None:
    paths = ["dog/1.png", "cat/1.png", "cat/deeper/2.png", "dog/2.jfif", "dog/3.JPEG"]
    data = open_data(str(write_images(tmp_path, *paths))).parts["all"]
    assert by_name(data) == {path: path.partition("/")[0] for path in paths}
    assert list(data.labels) == [0, 0, 1, 1, 1]
    assert data.load(0).getpixel((0, 0)) == colour(data.name(0))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("hot dog", "hot_dog", "hot dog and hot_dog are spelt differently"),
        ("Hot-Dog", "hot_dog", "Hot-Dog and hot_dog are spelt differently"),
        ("cafe\u0301", "caf\xe9", r"'cafe\\u0301' and 'caf\\xe9' are spelt differently"),  # as macOS has it, and others
        ("cat", "cat\u200b", r"'cat' and 'cat\\u200b' are spelt differently"),
        ("1", "01", "01 and 1 are spelt differently|1 and 01 are spelt differently"),
        ("7", "7.0", "7 and 7.0 are spelt differently"),
    ],
)
def test_a_class_in_two_spellings_is_refused(tmp_path: Path, one: str, other: str, told: str) -> None:
    write_images(tmp_path, f"{one}/1.png", f"{other}/1.png", "another/1.png")
    with pytest.raises(DataError, match=told):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    "names", [("a", "A"), ("C", "C-", "C+"), ("1", "10", "100", "0"), ("1.5 l", "15 l"), ("-1 x", "1 x")]
)
def test_classes_that_look_somewhat_alike_are_their_own(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_images(tmp_path, *[f"{name}/1.png" for name in names])
    assert set(open_data(str(tmp_path)).classes) == set(names)


@pytest.mark.parametrize("part", ["", "train/"])
def test_a_folder_called_like_two_others_together_is_a_class_of_its_own(tmp_path: Path, part: str) -> None:
    write_images(tmp_path, *[f"{part}{name}/1.png" for name in ("hot", "dog", "hot dog")])
    assert open_data(str(tmp_path)).classes == ("dog", "hot", "hot dog")
    write_images(tmp_path, f"{part}hot, dog/1.png")
    with pytest.raises(DataError, match="'hot, dog' names several of the classes"):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "Test"),
        ("training_set", "validation-set", "test_set"),
        ("train2017", "val2017", "test2017"),
        ("trainset", "dev", "testset"),
        ("Train Images", "Eval", "holdout"),
        ("entraînement", "validation", "test"),
        ("entrenamiento", "validación", "prueba"),
        ("cars_train", "cars_val", "cars_test"),
        ("dogs-Train", "dogs-Validation", "dogs-Test"),
    ],
)
def test_parts_are_known_by_their_usual_names(tmp_path: Path, train: str, val: str, test: str) -> None:
    for part, count in ((train, 3), (val, 2), (test, 1)):
        write_images(tmp_path, *[f"{part}/{name}/{i}.png" for name in ("cat", "dog") for i in range(count)])
    parts = open_data(str(tmp_path)).parts
    assert {part: len(data) for part, data in parts.items()} == {"train": 6, "val": 4, "test": 2}
    assert parts["test"].classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("paths", "parts", "classes"),
    [
        pytest.param(["train/a/1.png", "train/b/1.png"], {"train": 2}, ("a", "b"), id="training only"),
        pytest.param(["val/a/1.png", "val/b/1.png"], {"val": 2}, ("a", "b"), id="validation only"),
        pytest.param(["flowers/flowers/a/1.png", "flowers/flowers/b/1.png"], {"all": 2}, ("a", "b"), id="wrapped"),
        pytest.param(
            ["x/train/a/1.png", "x/train/b/1.png", "x/test/a/1.png"], {"train": 2, "test": 1}, ("a", "b"), id="wrapper"
        ),
        pytest.param(
            ["training_set/training_set/a/1.png", "training_set/training_set/b/1.png", "test_set/test_set/a/1.png"],
            {"train": 2, "test": 1},
            ("a", "b"),
            id="parts wrapped in themselves",
        ),
        pytest.param(
            ["a/train/1.png", "a/test/1.png", "b/train/1.png"], {"train": 2, "test": 1}, ("a", "b"), id="class first"
        ),
        pytest.param(["bus/1.png", "train/1.png"], {"all": 2}, ("bus", "train"), id="a class called train"),
        pytest.param(["red_bus/1.png", "red_train/1.png"], {"all": 2}, ("red_bus", "red_train"), id="a red train"),
        pytest.param(["c1/1.png", "c2/1.png"], {"all": 2}, ("c1", "c2"), id="numbered classes"),
        pytest.param(["A/1.png", "a/1.png"], {"all": 2}, ("A", "a"), id="letters"),
        pytest.param(["a/x/1.png", "b/x/1.png"], {"all": 2}, ("a", "b"), id="one folder in each class"),
        pytest.param(["train/a/1.png", "train/b/1.png", "test/1.png"], {"train": 2}, ("a", "b"), id="unlabelled test"),
        pytest.param(
            ["seg_train/seg_train/a/1.png", "seg_train/seg_train/b/1.png", "seg_test/seg_test/a/1.png"],
            {"train": 2, "test": 1},
            ("a", "b"),
            id="each part wrapped in its own name",
        ),
        pytest.param(["2/1.png", "10/1.png", "1/1.png"], {"all": 3}, ("1", "2", "10"), id="numbers"),
        pytest.param(["a/1.png", "b/1.png", "1.png"], {"all": 2}, ("a", "b"), id="an image beside the folders"),
        pytest.param(
            [
                "a/1.png",
                "b/1.png",
                ".ipynb_checkpoints/1.png",
                "a/.ipynb_checkpoints/1.png",
                "a/._1.png",
                "__MACOSX/1.png",
            ],
            {"all": 2},
            ("a", "b"),
            id="hidden",
        ),
    ],
)
def test_layouts(tmp_path: Path, paths: list[str], parts: dict[str, int], classes: tuple[str, ...]) -> None:
    data = open_data(str(write_images(tmp_path, *paths)))
    assert {part: len(images) for part, images in data.parts.items()} == parts
    assert data.classes == classes


def test_folders_called_like_parts_are_classes_on_request(tmp_path: Path) -> None:
    write_images(tmp_path, "train/steam/1.png", "train/diesel/1.png", "bus/red/1.png")
    with pytest.raises(DataError, match=r"train/ look like parts of the data, bus/ like classes; --no-splits"):
        open_data(str(tmp_path))
    data = open_data(str(tmp_path), splits=False)
    assert data.classes == ("bus", "train")
    assert len(data.parts["all"]) == 3


def test_what_is_not_used_is_told(tmp_path: Path) -> None:
    write_images(tmp_path, "train/a/1.png", "train/b/1.png", "test/1.png", "train/a/1.psd", "train/a/2.psd")
    notes = "; ".join(open_data(str(tmp_path)).notes)
    assert notes == "1 images outside class folders are not used; files passed over: 2 .psd"


@pytest.mark.parametrize(
    ("paths", "sentence"),
    [
        (["1.png", "2.png"], "nothing says their classes; a folder a class is needed"),
        (["train/1.png", "test/1.png"], "test/, train/ hold images but no class folders"),
        (["images/1.png", "annotations/x.xml"], "images/ is called like a folder of all images"),
        (["images/1.png", "masks/1.png"], "images/, masks/ is called like a folder of all images"),
        (["train/images/1.png", "train/labels/1.txt", "val/images/1.png"], "images/ is called like"),
        (["fold1/a/1.png", "fold1/b/1.png", "fold2/a/2.png", "fold2/b/2.png"], "hold the same folders"),
        (["x/images/a/1.png", "x/images/b/1.png", "y/images/a/1.png", "y/images/b/1.png"], "x/, y/ hold the same"),
        (["x/a/1.png", "x/b/1.png", "y/a/1.png", "y/b/1.png", "z/1.png", "w/c/1.png"], "x/, y/ hold the same folders"),
        (["train/a/1.png", "train/b/1.png", "val/c/1.png"], "the val part has classes that training has not: c"),
        (["train/a/1.png", "val/a/1.png", "train/b/1.png", "validation/a/1.png"], "both look like the val part"),
        (["a/1.png", "b/1.png", "c/notes.txt"], "no images in c/"),
        (["a/1.psd", "b/1.svg"], "holds no images"),
        (["cars_train/1.png", "cars_test/1.png"], "cars_test/, cars_train/ hold images but no class folders"),
        (["images_001/1.png", "images_002/2.png"], "images_001/, images_002/ are called like pieces of one set"),
        (["x_images_part_1/1.png", "x_images_part_2/2.png"], "are called like pieces of one set"),
        (["train/batch1/1.png", "train/batch2/2.png"], "batch1/, batch2/ are called like pieces"),
        (["a/abbey/1.png", "a/airport/2.png", "b/bakery/3.png"], "a/, b/ hold folders themselves, a/ abbey/, airport/"),
        (["train/x/a/1.png", "train/x/b/2.png", "train/y/c/3.png"], "x/, y/ hold folders themselves"),
        (["new/a2/1.png", "new/b2/1.png", "old/a/1.png", "old/b/1.png"], "new/, old/ hold folders themselves"),
        (["a/1.png", "b/1.png", "data/a/1.png", "data/b/1.png"], "data/ holds folders that are called like those"),
        (["Cat/1.png", "cat/1.png", "dog/1.png"], "Cat and cat are spelt differently"),
    ],
)
def test_a_wrong_folder_gets_its_sentence(tmp_path: Path, paths: list[str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence) as error:
        open_data(str(write_images(tmp_path, *paths)))
    assert str(tmp_path) in str(error.value)


def test_links_are_followed_and_end(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", "1.png")
    write_images(tmp_path / "data", "cat/1.png")
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert by_name(open_data(str(tmp_path / "data")).parts["all"]) == {"cat/1.png": "cat", "dog/1.png": "dog"}


def test_a_rotated_photograph_is_loaded_upright(tmp_path: Path) -> None:
    write_images(tmp_path, "b/1.png")
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    Image.new("RGB", (6, 4)).save(tmp_path / "a" / "photo.jpg", exif=exif)
    assert open_data(str(tmp_path)).parts["all"].load(0).size == (4, 6)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png", "b/1.png")
    (tmp_path / "b" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(DataError, match=r"b/1\.png: the PNG data is truncated") as error:
        open_data(str(tmp_path)).parts["all"].load(1)
    assert str(tmp_path) in str(error.value)


def test_an_avif_counts(tmp_path: Path) -> None:
    write_images(tmp_path, "a/1.png")
    (tmp_path / "b").mkdir()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "b" / "1.avif")
    assert open_data(str(tmp_path)).parts["all"].load(1).size == (8, 8)
