from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from model_export.datasets.data import DataError, open_data
from tests.model_export.datasets.images import by_name, write_images

VAL = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 2, 3)]
TRUTH = dict(zip(VAL, ("n01440764", "n01443537", "n01440764"), strict=True))
MAPPING = "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("imagenet_2012_validation_synset_labels.txt", "n01440764\nn01443537\nn01440764\n"),
        (
            "LOC_val_solution.csv",
            "ImageId,PredictionString\nILSVRC2012_val_00000002,n01443537 1 2 3 4\n"
            "ILSVRC2012_val_00000001,n01440764 1 2 3 4 n01440764 5 6 7 8\nILSVRC2012_val_00000003,n01440764 1 2 3 4\n",
        ),
        ("val_map.txt", "".join(f"{name} {wnid}\n" for name, wnid in TRUTH.items())),
    ],
)
def test_flat_validation_images_by_their_ground_truth(tmp_path: Path, file: str, text: str) -> None:
    write_images(tmp_path, *[f"val/{name}" for name in VAL], text={file: text})
    data = open_data(str(tmp_path))
    assert by_name(data.parts["val"]) == {f"val/{name}": wnid for name, wnid in TRUTH.items()}
    (tmp_path / "LOC_synset_mapping.txt").write_text(MAPPING)
    assert open_data(str(tmp_path)).classes == tuple(MAPPING.splitlines())


def test_kaggles_archive(tmp_path: Path) -> None:
    rows = "".join(f"{name.removesuffix('.JPEG')},{wnid} 1 2 3 4\n" for name, wnid in TRUTH.items())
    tables = {"LOC_val_solution.csv": f"ImageId,PredictionString\n{rows}", "LOC_synset_mapping.txt": MAPPING}
    tables |= {"LOC_train_solution.csv": "ImageId,PredictionString\n", "ILSVRC/ImageSets/CLS-LOC/val.txt": "x 1\n"}
    inner = "ILSVRC/Data/CLS-LOC"
    images = [f"train/{wnid}/{wnid}_1.JPEG" for wnid in sorted(set(TRUTH.values()))] + [f"val/{name}" for name in VAL]
    write_images(tmp_path, *[f"{inner}/{path}" for path in images], text=tables)
    for folder in (tmp_path, tmp_path / inner):
        data = open_data(str(folder))
        assert {part: len(images) for part, images in data.parts.items()} == {"train": 2, "val": 3}
        assert data.classes == tuple(MAPPING.splitlines())
        assert by_name(data.parts["val"])[f"val/{VAL[1]}"] == "n01443537 goldfish, Carassius auratus"


def test_indices_count_the_synsets_or_stay_numbers(tmp_path: Path) -> None:
    indices = "".join(f"{name} {index}\n" for name, index in zip(VAL, (0, 1, 0), strict=True))
    write_images(tmp_path, *VAL, text={"val.txt": indices})
    assert by_name(open_data(str(tmp_path)).parts["val"]) == dict(zip(VAL, ("0", "1", "0"), strict=True))
    write_images(tmp_path, "train/n01440764/1.JPEG", "train/n01443537/1.JPEG")
    parts = open_data(str(tmp_path)).parts
    assert by_name(parts["val"]) == TRUTH
    assert by_name(parts["train"])["train/n01443537/1.JPEG"] == "n01443537"


def test_the_devkits_numbers_are_no_indices(tmp_path: Path) -> None:
    truth = {"ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "2\n1\n2\n"}
    write_images(tmp_path, *[f"val/{name}" for name in VAL], text=truth)
    with pytest.raises(DataError, match=r"meta\.mat: is missing"):
        open_data(str(tmp_path))
    synsets = np.array([(1, "n01443537"), (2, "n01440764")], [("ILSVRC2012_ID", "O"), ("WNID", "O")])
    savemat(tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat", {"synsets": synsets})
    assert by_name(open_data(str(tmp_path)).parts["val"]) == {f"val/{name}": wnid for name, wnid in TRUTH.items()}


def test_flat_validation_images_without_a_truth_get_their_sentence(tmp_path: Path) -> None:
    write_images(tmp_path, *[f"val/{name}" for name in VAL])
    with pytest.raises(DataError, match="need their ground truth beside them; one of LOC_val_solution"):
        open_data(str(tmp_path))
    (tmp_path / "val_map.txt").write_text(f"{VAL[0]} n01440764\n{VAL[1]} n01443537\n")
    with pytest.raises(DataError, match=f"has no class for 1 images: {VAL[2]}"):
        open_data(str(tmp_path))


def test_tiny_imagenet(tmp_path: Path) -> None:
    text = {
        "wnids.txt": "n01443537\nn01440764\n",
        "words.txt": "n00001740\tentity\nn01440764\ttench, Tinca tinca\nn01443537\tgoldfish, Carassius auratus\n",
        "val/val_annotations.txt": "val_0.JPEG\tn01443537\t0\t32\t44\t62\nval_1.JPEG\tn01440764\t1\t2\t3\t4\n",
        "train/n01440764/n01440764_boxes.txt": "",
    }
    train = ["train/n01440764/images/n01440764_0.JPEG", "train/n01443537/images/n01443537_0.JPEG"]
    val = ["val/images/val_0.JPEG", "val/images/val_1.JPEG"]
    root = write_images(tmp_path / "tiny-imagenet-200", *train, *val, "test/images/test_0.JPEG", text=text)
    data = open_data(str(tmp_path))
    tench, goldfish = "n01440764 tench, Tinca tinca", "n01443537 goldfish, Carassius auratus"
    assert data.classes == (tench, goldfish)
    assert by_name(data.parts["train"]) == dict(zip(train, (tench, goldfish), strict=True))
    assert by_name(data.parts["val"]) == dict(zip(val, (goldfish, tench), strict=True))
    (root / "val" / "val_annotations.txt").unlink()
    with pytest.raises(DataError, match=r"val/val_annotations\.txt is missing"):
        open_data(str(tmp_path))
