from collections.abc import Sequence

import pytest
from PIL import Image

from model_export.datasets.dataset import Data, DataError
from model_export.training.parts import divide


class Named:
    """Images named by their part and number, of two classes in turn."""

    classes = ("a", "b")

    def __init__(self, part: str, count: int) -> None:
        self.part = part
        self.labels: Sequence[int] = [i % 2 for i in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def load(self, index: int) -> Image.Image:
        return Image.new("RGB", (1, 1), (index, 0, 0))

    def name(self, index: int) -> str:
        return f"{self.part}/{index}"


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        pytest.param({"all": 100}, None, (90, 10, None), id="one part, a tenth held out"),
        pytest.param({"all": 100}, 0.2, (80, 20, None), id="one part, a fifth asked for"),
        pytest.param({"train": 100, "val": 30}, None, (100, 30, None), id="a validation part is used"),
        pytest.param({"train": 100, "test": 30}, None, (90, 10, 30), id="a test part judges and does not choose"),
        pytest.param({"train": 100, "val": 20, "test": 30}, None, (100, 20, 30), id="all three"),
        pytest.param({"train": 50_000, "test": 30}, None, (49_000, 1_000, 30), id="98 % of CIFAR, as vit_jax"),
        pytest.param({"train": 100, "val": 30}, 0.1, (90, 10, 30), id="the validation part becomes the test"),
        pytest.param(
            {"train": 100, "val": 20, "test": 30}, 0.1, (108, 12, 30), id="the validation part joins training"
        ),
        pytest.param({"train": 100, "val": 20, "test": 30}, 0, (120, None, 30), id="nothing held out"),
    ],
)
def test_division(counts: dict[str, int], share: float | None, expected: tuple[int | None, ...]) -> None:
    data = Data("test", {part: Named(part, count) for part, count in counts.items()})
    parts = divide(data, share, seed=0)
    assert tuple(part and len(part) for part in (parts.train, parts.val, parts.test)) == expected
    names = [part.name(index) for part in (parts.train, parts.val, parts.test) if part for index in range(len(part))]
    assert len(names) == len(set(names)) == sum(counts.values())
    if "test" in counts:
        assert parts.test is data.parts["test"]


def test_joined_parts_give_each_image_as_its_own_part_does() -> None:
    data = Data("test", {"train": Named("train", 4), "val": Named("val", 2), "test": Named("test", 2)})
    train = divide(data, 0, seed=0).train
    assert [train.name(index) for index in range(6)] == ["train/0", "train/1", "train/2", "train/3", "val/0", "val/1"]
    assert list(train.labels) == [0, 1, 0, 1, 0, 1]
    assert train.load(5).getpixel((0, 0)) == (1, 0, 0)


def test_what_leaves_nothing_gets_its_sentence() -> None:
    with pytest.raises(DataError, match="no training part, only val and test"):
        divide(Data("test", {"val": Named("val", 4), "test": Named("test", 4)}), None, seed=0)
    with pytest.raises(DataError, match="nothing is left to judge by"):
        divide(Data("test", {"all": Named("all", 4)}), 0, seed=0)
