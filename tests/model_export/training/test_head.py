from dataclasses import replace

import pytest
import torch

from model_export.checkpoints.checkpoint import Checkpoint
from model_export.training.head import with_head_for
from model_export.training.snapshot import TrainingError
from model_export.training.start import starting_checkpoint

LABELS = ("cat", "dog", "n01440764 tench, Tinca tinca", "cow")


@pytest.fixture(scope="module")
def start() -> Checkpoint:
    return replace(starting_checkpoint("tiny/4", 4, seed=0), labels=LABELS)


@pytest.mark.parametrize(
    ("classes", "rows"),
    [
        (("cat", "dog", "n01440764 tench, Tinca tinca", "cow"), [0, 1, 2, 3]),
        (("Cow", "DOG"), [3, 1]),
        (("cow", "n01440764"), [3, 2]),
    ],
)
def test_classes_that_the_checkpoint_knows_keep_their_weights(
    start: Checkpoint, classes: tuple[str, ...], rows: list[int]
) -> None:
    kept, told = with_head_for(start, classes)
    assert torch.equal(kept.state["head.weight"], start.state["head.weight"][rows])
    assert torch.equal(kept.state["head.bias"], start.state["head.bias"][rows])
    assert kept.labels == tuple(LABELS[row] for row in rows)
    assert kept.config.classes == len(rows)
    assert told == f"kept, {len(rows)} of the checkpoint's classes"
    fresh, told = with_head_for(start, classes, keep=False)
    assert not fresh.state["head.weight"].any()
    assert fresh.labels == classes
    assert told == f"new, for {len(rows)} classes"


@pytest.mark.parametrize("classes", [("cat", "horse"), ("cat", "Cat")])
def test_other_classes_get_a_new_head(start: Checkpoint, classes: tuple[str, ...]) -> None:
    fresh, _ = with_head_for(start, classes)
    assert not fresh.state["head.weight"].any()
    assert not fresh.state["head.bias"].any()
    with pytest.raises(TrainingError, match=r"labels do not name (horse|several)"):
        with_head_for(start, classes, keep=True)


def test_a_checkpoint_without_labels_knows_no_class(start: Checkpoint) -> None:
    fresh, _ = with_head_for(replace(start, labels=None), LABELS)
    assert not fresh.state["head.weight"].any()


@pytest.mark.parametrize(("classes", "bias"), [(1000, -6.9), (10, -2.3)])
def test_without_a_bias_all_classes_are_equally_likely(start: Checkpoint, classes: int, bias: float) -> None:
    """-6.9 is what big_vision sets for ImageNet."""
    fresh, _ = with_head_for(start, tuple(f"class {i}" for i in range(classes)), bias=None)
    assert fresh.state["head.bias"].tolist() == pytest.approx([bias] * classes)


def test_what_synsets_mean_is_kept_beside_them(start: Checkpoint) -> None:
    fresh, _ = with_head_for(start, ("n01443537", "n01440764", "n00000001"))
    assert fresh.labels == ("goldfish", "tench", "n00000001")
    assert fresh.synsets == ("n01443537", "n01440764", "n00000001")
    kept, told = with_head_for(fresh, ("n01440764", "Goldfish"))
    assert (kept.labels, kept.synsets) == (("tench", "goldfish"), ("n01440764", "n01443537"))
    assert told.startswith("kept")


def test_a_thousand_classes_of_which_nothing_is_said_are_imagenets(start: Checkpoint) -> None:
    bare = start.with_new_head(1000)
    bare.state["head.bias"][1] = 5
    kept, _ = with_head_for(bare, ("goldfish", "n01440764"))
    assert kept.state["head.bias"].tolist() == [5, 0]
    assert "the names of ImageNet-1k are assumed" in kept.notes[-1]
