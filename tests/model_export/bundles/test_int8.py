"""Int8 from images to bundle: calibration, the choice of layers, the gate."""

from pathlib import Path

import numpy as np
import pytest

from model_export.__main__ import main
from model_export.bundles.calibration import CalibrationError, measure_layer_inputs, read_calibration
from model_export.bundles.onnx_export import graph_of, quantiser_of
from model_export.bundles.samples import sample_pngs
from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from service.bundle import load_bundle
from service.manifest import Gate
from tests.doubles import level_png
from tests.model_export import oracle

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(tiny_checkpoint)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """40 images, some of them in folders."""
    folder = tmp_path / "images"
    for index in range(5):
        (folder / f"class-{index}").mkdir(parents=True)
        for name, png in sample_pngs().items():
            (folder / f"class-{index}" / name).write_bytes(png)
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_quarter_of_the_images_is_held_out(checkpoint: Checkpoint, images: Path) -> None:
    calibration = read_calibration(str(images), checkpoint.preprocessing)
    assert calibration.pixels.shape == (30, 16, 16, 3)
    assert calibration.held_out.shape == (10, 16, 16, 3)


def test_what_cannot_calibrate_is_refused(checkpoint: Checkpoint, images: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such folder"):
        read_calibration(str(tmp_path / "nowhere"), checkpoint.preprocessing)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "one.png").write_bytes(level_png(3))
    with pytest.raises(CalibrationError, match="holds 1 images; calibration needs at least 16"):
        read_calibration(str(tmp_path / "few"), checkpoint.preprocessing)
    (images / "broken.png").write_bytes(level_png(3)[:40])
    with pytest.raises(CalibrationError, match=r"broken\.png"):
        read_calibration(str(images), checkpoint.preprocessing)


def test_ranges_and_means_are_those_of_what_a_layer_reads(checkpoint: Checkpoint) -> None:
    """The stem reads bytes, a token mixing the LayerNorm's output by token."""
    inputs = measure_layer_inputs(graph_of(checkpoint, "fp32", None), PIXELS)[100.0]
    patches = PIXELS.reshape(24, 4, 4, 4, 12).transpose(0, 1, 3, 2, 4).reshape(-1, 48)
    np.testing.assert_allclose(inputs["stem"].mean, patches.mean(axis=0), rtol=1e-5)
    assert (inputs["stem"].low, inputs["stem"].high) == (PIXELS.min(), PIXELS.max())

    weights = {name: array.astype(np.float64) for name, array in oracle.random_timm_weights().items()}
    x = (patches / 255 - 0.5) / 0.5
    kernel = weights["stem.proj.weight"].transpose(2, 3, 1, 0).reshape(48, -1)
    tokens = (x @ kernel + weights["stem.proj.bias"]).reshape(24, 16, 16)
    normed = oracle.layer_norm(tokens, weights, "blocks.0.norm1", 1e-6)
    first = inputs["blocks.0.token_mixing.dense_0"]
    np.testing.assert_allclose(first.mean, normed.mean(axis=(0, 2)), atol=1e-4)
    assert (first.low, first.high) == pytest.approx((normed.min(), normed.max()), abs=1e-4)


def test_every_layer_is_quantised_if_that_passes(checkpoint: Checkpoint) -> None:
    quantiser = quantiser_of(checkpoint, PIXELS)
    assert quantiser.choose(Gate(cosine=0.9, top1_agreement=0)).keys() == set(quantiser.layers)
    assert quantiser.layers == [
        "stem",
        *(
            f"blocks.{block}.{mixing}_mixing.dense_{i}"
            for block in range(2)
            for mixing in ("token", "channel")
            for i in range(2)
        ),
    ]


def test_the_layers_that_hurt_most_stay_in_float32(checkpoint: Checkpoint) -> None:
    quantiser = quantiser_of(checkpoint, PIXELS)
    worst_first = list(quantiser.sensitivity)
    gate = Gate(cosine=1 - 4 * quantiser.sensitivity[worst_first[2]], top1_agreement=0)
    floats = set(quantiser.layers) - quantiser.choose(gate).keys()
    assert 0 < len(floats) < len(worst_first)
    assert floats == set(worst_first[: len(floats)])


def test_nothing_is_quantised_where_nothing_may_be_lost(checkpoint: Checkpoint) -> None:
    assert quantiser_of(checkpoint, PIXELS).choose(Gate(cosine=1 - 1e-9, top1_agreement=1)) == {}


def test_an_int8_bundle_is_small_gated_and_the_same_again(
    tiny_checkpoint: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    command += ["--precision", "int8", "--calibration", str(images)]
    main(command)
    manifest = load_bundle(tmp_path / "models" / "tiny" / "1").manifest
    assert manifest.precision == "int8"
    assert manifest.quantisation is not None
    assert (manifest.quantisation.calibration_images, manifest.quantisation.held_out_images) == (30, 10)
    for parity in (manifest.parity, *manifest.other_engines):
        assert (parity.images, parity.gate.cosine, parity.gate.top1_agreement) == (10, 0.999, 0.99)
        assert parity.cosine >= 0.999
    assert "calibrate" in capsys.readouterr().err  # progress
    main(["verify", str(tmp_path / "models" / "tiny" / "1")])
    main(command)
    models = [(tmp_path / "models" / "tiny" / version / "model.onnx").read_bytes() for version in ("1", "2")]
    assert models[0] == models[1]


def test_int8_without_images_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    with pytest.raises(SystemExit, match="int8 needs --calibration"):
        main([*command, "--precision", "int8"])
    assert not (tmp_path / "models").exists()


def test_a_missed_gate_names_the_layers_to_blame(
    tiny_checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_export.bundles.quantise.Quantiser.choose", lambda self, gate: self._inputs)
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    command += ["--precision", "int8", "--calibration", str(images), "--gate", "cosine=0.9999999"]
    with pytest.raises(
        SystemExit, match=r"cosine 0\.99\d+ \(gate 0\.9999999\).*what quantising costs.*: .*dense_\d \("
    ):
        main(command)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("nonsense", ["cosine", "cosine=2", "speed=1", "top1_agreement=x"])
def test_a_gate_that_means_nothing_is_refused(tiny_checkpoint: Path, nonsense: str) -> None:
    with pytest.raises(SystemExit):
        main(["export", str(tiny_checkpoint), "--name", "tiny", "--gate", nonsense])
