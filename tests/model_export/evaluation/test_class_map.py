from pathlib import Path

import pytest

from model_export.checkpoints.class_names import ClassNames
from model_export.evaluation.class_map import ClassMapError, class_indices, read_class_map


@pytest.mark.parametrize(
    ("names", "labels", "classes", "expected", "told"),
    [
        pytest.param(("cat", "dog"), ("dog", "fox", "cat"), 3, [2, 0], "by name", id="by name"),
        pytest.param(("Cat", "DOG"), ("dog", "fox", "cat"), 3, [2, 0], "by name", id="in any case"),
        pytest.param(("0", "1"), ("1", "0"), 2, [1, 0], "by name", id="names before indices"),
        pytest.param(("0", "7"), None, 10, [0, 7], "indices, which count from 0", id="by index"),
        pytest.param(("0", "7"), tuple("abcdefghij"), 10, [0, 7], "count from 0", id="by index, and labels"),
        pytest.param(("1", "2", "3"), None, 3, [0, 1, 2], "1 to 3 are taken for indices 0 on", id="counted from 1"),
        pytest.param(("n01", "n02"), None, 2, [0, 1], "taken to be in the order of the data's names", id="in order"),
        pytest.param(("n01440764",), ("n01443537 goldfish", "n01440764 tench"), 2, [1], "by name", id="by synset"),
    ],
)
def test_classes_of_the_data_are_found_in_the_model(
    names: tuple[str, ...], labels: tuple[str, ...] | None, classes: int, expected: list[int], told: str
) -> None:
    indices, how = class_indices(names, labels and ClassNames(labels), classes)
    assert indices == expected
    assert told in how


@pytest.mark.parametrize(
    ("names", "labels", "classes", "sentence"),
    [
        pytest.param(("cat", "cow"), ("cat", "dog", "fox"), 3, "cow are not among its labels", id="one unknown"),
        pytest.param(("n01", "n02"), ("tench", "goldfish"), 2, "pass --labels", id="disjoint, as many"),
        pytest.param(("cat",), None, 2, "the model has no labels", id="no labels, another number"),
        pytest.param(("1", "5"), None, 3, "numbers up to 5, the model has 3", id="numbers beyond"),
        pytest.param(("Cat", "CAT"), ("cat", "dog"), 2, "several of the data's classes", id="two for one"),
        pytest.param(("crane",), ("n02012849 crane", "n03126707 crane"), 2, "crane are not", id="one for two"),
    ],
)
def test_classes_that_do_not_fit_are_refused(
    names: tuple[str, ...], labels: tuple[str, ...] | None, classes: int, sentence: str
) -> None:
    with pytest.raises(ClassMapError, match=sentence):
        class_indices(names, labels and ClassNames(labels), classes)


@pytest.mark.parametrize(
    "text",
    [
        '{"nine": 9, "cat": "dog"}',
        "nine,9\ncat,dog\n",
        "\ufeffnine\t9\n\ncat\tdog\n",
    ],
)
def test_a_map_leads_to_labels_or_indices(tmp_path: Path, text: str) -> None:
    (tmp_path / "map").write_text(text)
    class_map = read_class_map(tmp_path / "map")
    assert class_map == {"nine": "9", "cat": "dog"}
    indices, _ = class_indices(("nine", "cat", "fox"), ClassNames(("fox", "dog", *"abcdefgh")), 10, class_map)
    assert indices == [9, 1, 0]


def test_imagenets_mapping_leads_from_synsets_to_words(tmp_path: Path) -> None:
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn02012849 crane\n")
    class_map = read_class_map(tmp_path / "LOC_synset_mapping.txt")
    assert class_indices(("n01440764",), ClassNames(("crane", "tench, Tinca tinca")), 2, class_map)[0] == [1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a,b\nc\n", "line 2 is not a name"),
        ("a,b\na,c\n", "line 2 has a a second time"),
        ("{", "Expecting"),
        ("", "empty"),
    ],
)
def test_a_wrong_map_gets_its_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "map").write_text(text)
    with pytest.raises(ClassMapError, match=sentence):
        read_class_map(tmp_path / "map")
