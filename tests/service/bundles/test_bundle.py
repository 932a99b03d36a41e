import json
import os
from pathlib import Path

import pytest

from service.bundles.bundle import BundleError, find_bundles, load_bundle
from tests.doubles import write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


def edit(bundle: Path, **changes: object) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(manifest | changes))


def test_a_good_bundle_loads_with_its_labels_and_golden_images(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.labels is not None
    assert loaded.labels[7] == "level 7"
    images, outputs = loaded.golden()
    assert outputs.keys() == {"logits"}
    assert len(images) == len(outputs["logits"]) == 2


@pytest.mark.parametrize(("head", "widths"), [(True, {"logits": 256, "features": 3}), (False, {"features": 3})])
def test_a_bundle_with_features_has_them_beside_its_logits_if_any(
    tmp_path: Path, head: bool, widths: dict[str, int]
) -> None:
    loaded = load_bundle(write_bundle(tmp_path, features=True, head=head))
    assert list(loaded.manifest.outputs.items()) == list(widths.items())
    assert {name: golden.shape for name, golden in loaded.golden()[1].items()} == {
        name: (2, width) for name, width in widths.items()
    }


def test_a_manifest_says_of_every_output_all_or_nothing(tmp_path: Path) -> None:
    with_head = write_bundle(tmp_path / "a", features=True)
    without = write_bundle(tmp_path / "b", features=True, head=False)
    for bundle, change, cause in (
        (with_head, {"parity": None}, "a model with classes needs parity"),
        (with_head, {"classes": 0}, "a model without classes has features, and neither labels nor"),
        (without, {"classes": 256}, "a model with classes needs parity"),
        (without, {"features": None}, "a model without classes has features"),
        (without, {"labels": "labels.txt"}, "a model without classes has features, and neither labels"),
    ):
        before = (bundle / "manifest.json").read_text()
        edit(bundle, **change)
        with pytest.raises(BundleError, match=cause):
            load_bundle(bundle)
        (bundle / "manifest.json").write_text(before)
        load_bundle(bundle)


@pytest.mark.parametrize("file", ["model.onnx", "labels.txt", "golden/dark.png", "golden/logits.npy"])
def test_a_changed_byte_is_refused(bundle: Path, file: str) -> None:
    data = bytearray((bundle / file).read_bytes())
    data[-1] ^= 1
    (bundle / file).write_bytes(data)
    with pytest.raises(BundleError, match=rf"{file}: sha256"):
        load_bundle(bundle)


def test_the_files_of_a_bundle_that_is_verified_already_are_not_read_again(bundle: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"another")
    assert load_bundle(bundle, verified=True).labels


def test_a_missing_file_is_refused(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: No such file"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"version": "latest"}, "version"),
        ({"name": "../evil"}, "name"),
        ({"image_size": 8}, "crop 4 is not the image size 8"),
        ({"files": {}}, "files without a sha256: golden/dark.png"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "outside the bundle"),
        ({"files": {"/etc/passwd": "0" * 64}}, "outside the bundle"),
    ],
)
def test_an_invalid_manifest_is_refused_with_its_cause(bundle: Path, changes: dict[str, object], cause: str) -> None:
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=cause):
        load_bundle(bundle)


ENGINE = {
    "provider": "NvTensorRTRTXExecutionProvider",
    "model": "labels.txt",
    "version": "1.7.1.116",
    "gpu": "NVIDIA Test",
    "compute_capability": "8.9",
    "driver_api": "13.0",
    "profile": [1, 8, 64],
}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"model": "tensorrt/model_ctx.onnx"}, r"files without a sha256: tensorrt/model_ctx\.onnx"),
        ({"profile": [8, 1, 64]}, "does not ascend"),
        ({"provider": "CUDAExecutionProvider"}, r"tensorrt\.provider"),
        ({"version": "ten"}, r"tensorrt\.version"),
        ({"gpu": ""}, r"tensorrt\.gpu"),
    ],
)
def test_a_compiled_engine_that_says_too_little_is_refused(
    bundle: Path, changes: dict[str, object], cause: str
) -> None:
    edit(bundle, tensorrt=ENGINE)
    assert load_bundle(bundle).manifest.tensorrt is not None
    edit(bundle, tensorrt=ENGINE | changes)
    with pytest.raises(BundleError, match=cause):
        load_bundle(bundle)


def test_a_failed_parity_gate_is_refused(bundle: Path) -> None:
    parity = json.loads((bundle / "manifest.json").read_text())["parity"]
    edit(bundle, parity=parity | {"passed": False})
    with pytest.raises(BundleError, match="parity"):
        load_bundle(bundle)


def test_labels_must_match_the_classes(bundle: Path) -> None:
    edit(bundle, classes=3)
    with pytest.raises(BundleError, match="256 labels for 3 classes"):
        load_bundle(bundle)


def test_no_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json: No such file"):
        load_bundle(tmp_path)


def test_the_latest_version_is_the_highest_number(tmp_path: Path) -> None:
    for name, version in (("b", "2"), ("b", "10"), ("a", "1")):
        write_bundle(tmp_path, name, version)
    (tmp_path / "b" / ".staging").mkdir()
    (tmp_path / "not a model").mkdir()
    assert find_bundles(tmp_path, []) == [tmp_path / "a" / "1", tmp_path / "b" / "10"]
    assert find_bundles(tmp_path, ["b/2", "a"]) == [tmp_path / "b" / "2", tmp_path / "a" / "1"]


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("c", "has no model 'c'; it has a"),
        ("../a", r"has no model '\.\./a'; it has a"),
        ("a/2", "'a' has no version '2'; it has 1, 3"),
        ("a/../a", r"'a' has no version '\.\./a'; it has 1, 3"),
    ],
)
def test_a_model_that_is_not_there(tmp_path: Path, model: str, told: str) -> None:
    for version in ("1", "3"):
        write_bundle(tmp_path, "a", version)
    with pytest.raises(BundleError, match=rf"{told}$"):
        find_bundles(tmp_path, [model])


def test_an_empty_or_missing_repository(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no bundle"):
        find_bundles(tmp_path, [])
    with pytest.raises(BundleError, match="no such model repository"):
        find_bundles(tmp_path / "nowhere", [])


def test_several_versions_of_a_model_are_each_found_once(tmp_path: Path) -> None:
    for version in ("9", "10"):
        write_bundle(tmp_path, "a", version)
    latest, other = tmp_path / "a" / "10", tmp_path / "a" / "9"
    assert find_bundles(tmp_path, ["a", "a/9", "a/10"]) == [latest, other]
    assert find_bundles(tmp_path, ["a/9", "a"]) == [other, latest]


def test_a_repository_of_links_as_kubernetes_mounts_it(tmp_path: Path) -> None:
    """kubelet's atomic writer: the names are links into ..data, which is a link that is replaced by a rename."""
    write_bundle(tmp_path / "..2026_01_01", "a")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "a").symlink_to("..data/a")
    assert find_bundles(tmp_path, []) == [tmp_path / "a" / "1"]


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")
    with pytest.raises(BundleError, match=r"model\.onnx: not a file"):
        load_bundle(bundle)


def test_a_version_that_is_half_there_is_passed_over_aloud(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    (bundle.parent / "2").mkdir()
    assert find_bundles(bundle.parent.parent, []) == [bundle]
    assert f"{bundle.parent.name}/2 is passed over" in caplog.text
