import dataclasses
import json
import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import save_file

import model_export.bundles.convert
from model_export.__main__ import main
from model_export.bundles.parity import GateError, check_parity, gates_of, pipeline
from model_export.bundles.publish import PublishError, publish, verify
from model_export.bundles.reference import reference_outputs
from model_export.bundles.samples import sample_pngs
from model_export.bundles.synsets import names_of
from model_export.checkpoints.checkpoint import read_checkpoint
from service.bundles.bundle import BundleError, load_bundle, sha256_of
from service.engines.onnx_engine import OnnxEngine
from tests.model_export import oracle


@pytest.fixture(scope="module")
def bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("models")
    main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(repository)])
    return repository / "tiny" / "1"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_bundle_says_what_it_is(bundle: Path, tiny_checkpoint: Path) -> None:
    manifest = load_bundle(bundle).manifest
    assert (manifest.name, manifest.version, manifest.variant, manifest.classes) == ("tiny", "1", "tiny/4", 7)
    assert (manifest.parameters, manifest.source.kind, manifest.source.reference) == (3767, "timm", "tiny.safetensors")
    assert manifest.source.sha256 == sha256_of(tiny_checkpoint)
    assert [parity.engine.split()[0] for parity in (manifest.parity, *manifest.other_engines)] == [
        "onnxruntime",
        "openvino",
    ]
    assert manifest.parity.batch_sizes == [1, 3, 8]
    assert manifest.parity.max_abs_error <= manifest.parity.gate.max_abs_error
    assert {"torch", "onnx", "onnxruntime"} <= manifest.tools.keys()
    assert contents(bundle).keys() == manifest.files.keys() | {"manifest.json"}


def test_the_engine_answers_like_the_reference_through_the_whole_pipeline(bundle: Path, tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    images = [pipeline(checkpoint.preprocessing)(png) for png in sample_pngs().values()]
    logits = OnnxEngine(bundle / "model.onnx", 1, ["CPUExecutionProvider"]).run(np.stack(images))
    np.testing.assert_allclose(logits, reference_outputs(checkpoint, np.stack(images))["logits"], atol=1e-4)


def test_the_same_source_gives_the_same_bytes(bundle: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path)])
    assert contents(tmp_path / "tiny" / "1") == contents(bundle)


def test_an_existing_version_is_kept_unless_replaced(
    bundle: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(bundle.parent.parent)]
    before = contents(bundle)
    with pytest.raises(SystemExit, match=r"tiny/1 exists"):
        main([*command, "--version", "1"])
    assert contents(bundle) == before
    main([*command, "--version", "1", "--replace"])
    assert contents(bundle) == before
    assert capsys.readouterr().out.strip() == str(bundle)
    assert [path.name for path in bundle.parent.iterdir()] == ["1"]


def spoil(model: bytes) -> bytes:
    """The model with one bias off by 0.01."""
    proto = onnx.load_from_string(model)
    bias = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("head.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    spoiled: bytes = proto.SerializeToString()
    return spoiled


def test_a_failed_gate_exits_non_zero_and_leaves_nothing_behind(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = model_export.bundles.convert.export_onnx
    monkeypatch.setattr(model_export.bundles.convert, "export_onnx", lambda *how: spoil(export(*how)))
    with pytest.raises(SystemExit, match=r"parity gate failed on onnxruntime .*: max abs error 0\.01") as caught:
        main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "a" / "models")])
    assert caught.value.code not in (0, None)
    assert list(tmp_path.iterdir()) == []


def test_the_gate_sees_a_single_wrong_answer(bundle: Path, tiny_checkpoint: Path) -> None:
    checkpoint = read_checkpoint(tiny_checkpoint)
    pixels = np.stack([pipeline(checkpoint.preprocessing)(png) for png in sample_pngs().values()])
    reference = reference_outputs(checkpoint, pixels)
    reference["logits"][5] += 1e-3
    with pytest.raises(GateError, match=r"max abs error 0\.001"):
        check_parity(bundle / "model.onnx", "fp32", pixels, reference, gates_of("fp32", reference))


def test_labels_from_a_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\nc\nd\ne\nf\nü\n", encoding="utf-8")
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    main([*command, "--labels", str(tmp_path / "names.txt")])
    assert load_bundle(tmp_path / "models" / "tiny" / "1").labels == ("a", "b", "c", "d", "e", "f", "ü")
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(SystemExit, match="2 labels for 7 classes"):
        main([*command, "--labels", str(tmp_path / "names.txt")])


def test_golden_images_of_ones_own(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "mine.png").write_bytes(sample_pngs()["sample-0.png"])
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    main([*command, "--golden", str(tmp_path / "images")])
    assert load_bundle(tmp_path / "models" / "tiny" / "1").manifest.golden.images == ["golden/mine.png"]
    (tmp_path / "images" / "note.txt").write_text("not an image, and passed over")
    main([*command, "--golden", str(tmp_path / "images")])
    (tmp_path / "images" / "bad.png").write_text("not an image")
    with pytest.raises(SystemExit, match=r"golden image bad\.png: not an accepted image format"):
        main([*command, "--golden", str(tmp_path / "images")])


def test_golden_images_of_equal_names_are_all_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for folder in ("cat", "dog/small"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        (tmp_path / "images" / folder / "1.png").write_bytes(sample_pngs()["sample-0.png"])
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    main([*command, "--golden", str(tmp_path / "images")])
    bundle = load_bundle(tmp_path / "models" / "tiny" / "1")
    assert bundle.manifest.golden.images == ["golden/cat/1.png", "golden/dog/small/1.png"]
    assert len(bundle.golden()[0]) == 2
    main(["verify", str(bundle.path)])


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--precision", "int8"], "int8 needs --calibration: images like those that will be served"),
        (["--precision", "int8", "--calibration", "nowhere"], "nowhere: no such folder of images"),
        (["--precision", "int8", "--calibration", "empty"], "empty: holds 0 images; calibration needs at least 16"),
        (["--version", "0"], "'0' is no version"),
        (["--name", "a/b"], "'a/b' is no model name"),
        (["--repository", "labels.txt"], "nothing can be written to labels.txt; choose another --repository"),
        (["--repository", "labels.txt/new"], "nothing can be written to labels.txt; choose another --repository"),
        (["--labels", "labels.txt"], "labels.txt: line 2 is empty"),
        (["--labels", "nowhere.txt"], "No such file or directory: 'nowhere.txt'"),
        (["--golden", "nowhere"], "nowhere: no such folder of images"),
        (["--golden", "empty"], "empty: holds no images"),
        (["--crop-pct", "2"], "crop_pct is 2.0, it must be above 0 and at most 1"),
        (["--std", "0", "1", "1"], "std positive"),
        (["--layer-norm-eps", "1"], "--layer-norm-eps is 1, it must be"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_arguments_are_checked_before_the_checkpoint_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], cause: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "labels.txt").write_text("a\n\nc\n")
    with pytest.raises(SystemExit, match=cause):
        main(["export", "no-such-checkpoint.npz", "--name", "m", *arguments])


def test_an_existing_version_is_refused_before_the_checkpoint_is_read(bundle: Path) -> None:
    with pytest.raises(SystemExit, match=r"tiny/1 exists; choose another --version, or --replace it"):
        main(["export", "nowhere.npz", "--name", "tiny", "--version", "1", "--repository", str(bundle.parent.parent)])


def test_names_that_do_not_fit_are_refused_before_anything_is_calibrated(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for number in range(16):
        (tmp_path / f"{number}.png").write_text("not an image, which calibration would say")
    command = ["export", str(tiny_checkpoint), "--name", "m", "--repository", str(tmp_path / "models")]
    with pytest.raises(SystemExit, match="1000 labels for 7 classes"):
        main([*command, "--labels", "imagenet-1k", "--precision", "int8", "--calibration", str(tmp_path)])


def test_the_next_command_can_be_pasted(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    repository = tmp_path / "my models"
    main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(repository)])
    (command,) = re.findall("^next: (.*)$", capsys.readouterr().err, re.MULTILINE)
    assert shlex.split(command) == ["mixer-serve", "--model-repository", str(repository), "--models", "tiny/1"]


def test_the_summary(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path)])
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path / 'tiny' / '1'}\n"
    summary = shown.err[shown.err.index("tiny/1: tiny/4, fp32, 7 classes (without names), 0.00 M parameters, 0.") :]
    for engine in ("onnxruntime", "openvino"):
        line = next(line for line in summary.splitlines() if line.startswith(f"  {engine}"))
        assert re.search(
            r"cosine 1\.0+ at worst \(sample-\d\.png\), top-1 agreement 100\.0%, .*, \d[\d.]* img/s on one core$", line
        )
    assert re.search(r"took [\d.]+ s: reference [\d.]+, graph [\d.]+, parity [\d.]+, write [\d.]+", summary)
    assert f"next: mixer-serve --model-repository {tmp_path} --models tiny/1" in summary
    assert "note: images of 16x16 pixels are assumed" in shown.err


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of 1000 classes that says nothing about them."""
    path = tmp_path_factory.mktemp("thousand") / "m.safetensors"
    save_file(oracle.random_timm_weights(classes=1000), path)
    return path


def test_imagenets_names_by_default_by_name_or_not_at_all(
    thousand: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(thousand), "--name", "m", "--repository", str(tmp_path)]
    main(command)
    assert "the names of ImageNet-1k are assumed" in capsys.readouterr().err
    main([*command, "--labels", "imagenet-1k"])
    assert "are assumed" not in capsys.readouterr().err.replace("pixels are assumed", "")
    for version in ("1", "2"):
        bundle = load_bundle(tmp_path / "m" / version)
        assert bundle.labels is not None
        assert (bundle.labels[0], bundle.labels[999]) == ("tench", "toilet tissue")
        names = names_of(bundle)
        assert names is not None
        assert names.identified[999] == "n15075141 toilet tissue"
    main([*command, "--labels", "none"])
    assert load_bundle(tmp_path / "m" / "3").labels is None


def test_names_that_cannot_be_read_back_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    labels = ("a\u2028b", *"bcdefg")
    checkpoint = dataclasses.replace(read_checkpoint(tiny_checkpoint), labels=labels)
    with pytest.raises(PublishError, match="the name of class 0 is empty or has a line break"):
        publish(checkpoint, tmp_path / "m" / "1", sample_pngs())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "", "a/b", ".hidden"])
def test_a_name_stays_inside_the_repository(tiny_checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(SystemExit):
        main(["export", str(tiny_checkpoint), "--name", name, "--repository", str(tmp_path / "models")])
    assert list(tmp_path.iterdir()) == []


def test_verify(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(bundle)])
    assert "verified" in capsys.readouterr().out


def test_verify_refuses_changed_files_and_changed_answers(tiny_checkpoint: Path, tmp_path: Path) -> None:
    main(["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path)])
    bundle = tmp_path / "tiny" / "1"
    (bundle / "model.onnx").write_bytes(spoil((bundle / "model.onnx").read_bytes()))
    with pytest.raises(BundleError, match="sha256"):
        verify(bundle)
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["files"]["model.onnx"] = sha256_of(bundle / "model.onnx")
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit, match=r"parity gate failed on .*: max abs error 0\.01"):
        main(["verify", str(bundle)])


def test_what_weights_cannot_tell_can_be_told(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path)]
    main([*command, "--gelu", "tanh", "--layer-norm-eps", "1e-3", "--interpolation", "bilinear"])
    manifest = load_bundle(tmp_path / "tiny" / "1").manifest
    assert (manifest.gelu, manifest.layer_norm_eps, manifest.preprocessing.interpolation) == ("tanh", 1e-3, "bilinear")
    main([*command, "--crop-pct", "0.5", "--mean", "0", "0", "0", "--std", "1", "1", "1"])
    preprocessing = load_bundle(tmp_path / "tiny" / "2").manifest.preprocessing
    assert (preprocessing.resize_short, preprocessing.mean, preprocessing.std) == (32, (0, 0, 0), (1, 1, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    weights = oracle.random_timm_weights()
    for version, expected in (
        ("1", oracle.forward(weights, pixels, 0.5, 0.5, "tanh", 1e-3)),
        ("2", oracle.forward(weights, pixels, 0, 1)),
    ):
        engine = OnnxEngine(tmp_path / "tiny" / version / "model.onnx", 1, ["CPUExecutionProvider"])
        np.testing.assert_allclose(engine.run(pixels[None])[0], expected, atol=1e-4)
    for nonsense in (["--std", "0", "1", "1"], ["--crop-pct", "0"], ["--layer-norm-eps", "0"]):
        with pytest.raises(SystemExit, match="must be"):
            main([*command, *nonsense])


def test_an_interruption_while_replacing_keeps_the_old_bundle(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path), "--version", "1"]
    main(command)
    before = contents(tmp_path)
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(SystemExit):
        main([*command, "--replace"])
    assert contents(tmp_path) == before
