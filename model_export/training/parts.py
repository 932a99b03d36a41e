"""What is trained on, what a run is watched by, and what it is judged on once, at its end."""

from dataclasses import dataclass

from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.split import Joined, hold_out
from model_export.training.schedule import validation_share_for


@dataclass(frozen=True)
class Parts:
    """A data set, divided for training; `split` says in words where the validation images come from."""

    train: Dataset
    val: Dataset | None
    test: Dataset | None
    split: str

    def __str__(self) -> str:
        """One line, with the images of each."""
        told = f"trains on {len(self.train):,} images"
        told += f", validates on {len(self.val):,} ({self.split})" if self.val else ""
        return told + (f", tests once at the end on {len(self.test):,}" if self.test else "")


def divide(data: Data, share: float | None, seed: int) -> Parts:
    """As the data is divided; without a validation part, ViT's share of the training images is held out for it.

    A `share` is held out whatever the data has: its validation part then joins the training images where there is a
    test part, and becomes the test where there is none. A share of 0 holds nothing out, which takes a test part.
    Raises DataError where nothing is left to train on or to judge by.
    """
    train, val, test = (data.parts.get(part) for part in ("train", "val", "test"))
    train = train or data.parts.get("all")
    if train is None:
        raise DataError(f"there is no training part, only {' and '.join(data.parts)}")
    if share is None and val is not None:
        return Parts(train, val, test, "its validation part")
    if test is None:
        test = val
    elif val is not None:
        train = Joined(train, val)
    if share == 0:
        if test is None:
            raise DataError("with nothing held out and no test part, nothing is left to judge by")
        return Parts(train, None, test, "none")
    share = validation_share_for(len(train)) if share is None else share
    held_in, held_out = hold_out(train, share, seed)
    return Parts(held_in, held_out, test, f"{share:.0%} of each class, seed {seed}")
