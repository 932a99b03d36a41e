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
    whole = [content(batch) for batch in batches(data).batches(0, 8)]
    assert len(whole) == batches(data).steps_in(2) + 1 == 8
    assert [content(batch) for batch in batches(data, workers=5).batches(0, 8)] == whole
    assert [content(batch) for batch in batches(data, workers=3).batches(5, 8)] == whole[5:]


def test_epochs_follow_each_other_without_a_seam_in_orders_and_forms_of_their_own(data: Dataset) -> None:
    """14 images in batches of 4: 7 batches are 2 epochs, and the fourth batch is of both."""
    source = AugmentedBatches(data, Augmentation(SPEC, "resmall", flip=True, magnitude=0), 4, 0.0, seed=0)
    seen = [batch.part(0, 4, CPU) for batch in source.batches(0, 7)]
    assert {len(targets) for _, targets in seen} == {4}
    targets = torch.cat([targets for _, targets in seen]).tolist()
    epochs = [targets[:14], targets[14:]]
    assert [sorted(order) for order in epochs] == [list(data.labels)] * 2
    assert epochs[0] != epochs[1]
    images = [image.numpy().tobytes() for images, _ in seen for image in images]
    assert len(set(images[:14])) == len(set(images[14:])) == 14
    assert len(set(images[:14]) & set(images[14:])) < 7
    other = [content(batch) for batch in batches(data, seed=1).batches(0, 3)]
    assert other != [content(batch) for batch in batches(data).batches(0, 3)]


def test_a_batch_holds_at_most_all_images(data: Dataset) -> None:
    source = AugmentedBatches(data, Augmentation(SPEC, "center", flip=False, magnitude=0), 512, 0.0, seed=0)
    assert (source.size, source.steps_in(3)) == (14, 3)
    (batch,) = source.batches(0, 1)
    assert sorted(batch.part(0, 14, CPU)[1].tolist()) == list(data.labels)


def test_an_unreadable_image_ends_the_run_with_its_sentence(tmp_path: Path) -> None:
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / "1.png")
    (tmp_path / "bad" / "1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad/1\.png: not an accepted image format"):
        list(batches(open_data(str(tmp_path)).parts["all"]).batches(0, 1))


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
    for i, colour in enumerate([(255, 51, 0), (0, 51, 0)]):
        (tmp_path / f"{i}").mkdir()
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{i}" / "1.png")
    measured = with_measured_normalisation(SPEC, open_data(str(tmp_path)).parts["all"])
    assert measured.mean == pytest.approx((0.5, 0.2, 0.0))
    assert measured.std == pytest.approx((0.5, 1 / 255, 1 / 255), abs=1e-6)
    assert (measured.resize_short, measured.crop) == (10, 8)
