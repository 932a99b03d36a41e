import pytest

from model_export.datasets.class_names import match_classes


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
    assert match_classes([name], labels) == [expected]
