from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model_export.datasets.data import DataError, open_data
from model_export.datasets.dataset import Dataset
from model_export.datasets.normalisation import with_measured_normalisation
from model_export.datasets.split import hold_out
from model_export.training.augment import Augmentation
from model_export.training.batches import AugmentedBatches, Batch
from service.bundles.manifest import Preprocessing

HALF = (0.5, 0.5, 0.5)
SPEC = Preprocessing(resize_short=10, interpolation="bilinear", crop=8, mean=HALF, std=HALF)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Eleven noisy images of class a, one of b and two of c."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    for name, count in (("a", 11), ("b", 1), ("c", 2)):
        (folder / name).mkdir()
        for i in range(count):
            Image.fromarray(random.integers(0, 256, (12, 15, 3), np.uint8)).save(folder / name / f"{i:02}.png")
    return open_data(str(folder)).parts["all"]


def batches(data: Dataset, seed: int = 0, workers: int = 1) -> AugmentedBatches:
    return AugmentedBatches(data, Augmentation(SPEC, "resmall", flip=True, magnitude=15), 4, 0.5, seed, workers)


def content(batch: Batch) -> tuple[bytes, bytes]:
    images, targets = batch.part(0, len(batch), CPU)
    return images.numpy().tobytes(), targets.numpy().tobytes()


def test_the_number_of_threads_and_the_step_resumed_at_change_nothing(data: Dataset) -> None:
    whole = [content(batch) for batch in batches(data).epoch(1, 0)]
    assert len(whole) == batches(data).steps == 4
    assert [content(batch) for batch in batches(data, workers=5).epoch(1, 0)] == whole
    assert [content(batch) for batch in batches(data, workers=3).epoch(1, 2)] == whole[2:]


def test_every_epoch_has_each_image_once_in_an_order_and_form_of_its_own(data: Dataset) -> None:
    source = AugmentedBatches(data, Augmentation(SPEC, "resmall", flip=True, magnitude=0), 4, 0.0, seed=0)
    epochs = [[batch.part(0, 4, CPU) for batch in source.epoch(number, 0)] for number in (0, 1)]
    orders = [torch.cat([targets for _, targets in epoch]).tolist() for epoch in epochs]
    assert [sorted(order) for order in orders] == [list(data.labels)] * 2
    assert orders[0] != orders[1]
    forms = [{image.numpy().tobytes() for images, _ in epoch for image in images} for epoch in epochs]
    assert len(forms[0]) == len(forms[1]) == 14
    assert len(forms[0] & forms[1]) < 7
    other = [content(batch) for batch in batches(data, seed=1).epoch(0, 0)]
    assert other != [content(batch) for batch in batches(data).epoch(0, 0)]


def test_an_unreadable_image_ends_the_epoch_with_its_sentence(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "class" / "good.png")
    (tmp_path / "class" / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png: not an accepted image format"):
        list(batches(open_data(str(tmp_path)).parts["all"]).epoch(0, 0))


def test_a_share_of_every_class_is_held_out(data: Dataset) -> None:
    train, val = hold_out(data, 0.2, seed=0)
    assert sorted(val.labels) == [0, 0, 2]
    assert sorted(train.labels) == [0] * 9 + [1, 2]
    assert sorted(train.indices + val.indices) == list(range(14))
    assert hold_out(data, 0.2, seed=0)[1].indices == val.indices != hold_out(data, 0.2, seed=1)[1].indices
    assert val.load(0).tobytes() == data.load(val.indices[0]).tobytes()
    with pytest.raises(DataError, match="too few"):
        hold_out(hold_out(data, 0.99, seed=0)[0], 0.1, seed=0)


def test_mean_and_std_are_those_of_the_pixels(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    for i, colour in enumerate([(255, 51, 0), (0, 51, 0)]):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "class" / f"{i}.png")
    measured = with_measured_normalisation(SPEC, open_data(str(tmp_path)).parts["all"])
    assert measured.mean == pytest.approx((0.5, 0.2, 0.0))
    assert measured.std == pytest.approx((0.5, 1 / 255, 1 / 255), abs=1e-6)
    assert (measured.resize_short, measured.crop) == (10, 8)
