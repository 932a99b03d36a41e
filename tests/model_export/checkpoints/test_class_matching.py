import pytest

from model_export.checkpoints.class_matching import match_classes
from model_export.checkpoints.class_names import ClassNames


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("Dog", ["cat", "dog"], 1),
        ("dog", ["Dog", "dog"], 1),
        ("DOG", ["Dog", "dog"], None),
        ("golden_retriever", ["Golden  Retriever"], 0),
        ("n01440764", ["n01440764 tench, Tinca tinca"], 0),
        ("tench, Tinca tinca", ["n01440764 tench, Tinca tinca"], 0),
        ("n01440764 tench", ["n01440764"], 0),
        ("n02012849 crane", ["n03126707 crane", "n02012849 crane"], 1),
        ("crane", ["n03126707 crane", "n02012849 crane"], None),
        ("cow", ["cat"], None),
    ],
)
def test_a_class_by_its_names(name: str, labels: list[str], expected: int | None) -> None:
    assert match_classes([name], ClassNames(tuple(labels))) == [expected]


@pytest.mark.parametrize("name", ["n03126707", "N03126707", "n03126707 crane", "n03126707_crane", "lifting crane"])
def test_a_class_by_its_synset_or_its_label(name: str) -> None:
    known = ClassNames(("crane", "lifting crane"), ("n02012849", "n03126707"))
    assert match_classes([name], known) == [1]


def test_identifiers_that_are_no_synsets() -> None:
    known = ClassNames(("a cat", "a dog"), ("c", "d"))
    assert match_classes(["D", "a Cat", "d a dog", "e"], known) == [1, 0, 1, None]


def test_no_names_match_nothing() -> None:
    assert match_classes(["cat", "dog"], None) == [None, None]
