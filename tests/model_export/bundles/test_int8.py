"""Int8 from images to bundle: calibration, the choice of layers, the gate."""

from pathlib import Path

import numpy as np
import pytest

import model_export.bundles.convert
from model_export.__main__ import main
from model_export.bundles.calibration import CalibrationError, measure_layer_inputs, read_calibration
from model_export.bundles.onnx_export import graph_of, quantiser_of
from model_export.bundles.parity import GateError
from model_export.checkpoints.checkpoint import Checkpoint, read_checkpoint
from service.bundles.bundle import load_bundle
from service.bundles.manifest import Gate
from tests.doubles import level_png
from tests.model_export import oracle

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(tiny_checkpoint)


def test_a_quarter_of_the_images_is_held_out(checkpoint: Checkpoint, images: Path) -> None:
    calibration = read_calibration(str(images), checkpoint.preprocessing)
    assert calibration.pixels.shape == (30, 16, 16, 3)
    assert calibration.held_out.shape == (10, 16, 16, 3)


def test_what_cannot_calibrate_is_refused(checkpoint: Checkpoint, images: Path, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no such folder"):
        read_calibration(str(tmp_path / "nowhere"), checkpoint.preprocessing)
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "one.png").write_bytes(level_png(3))
    for copy in range(20):
        (tmp_path / "few" / f"{copy}.png").write_bytes(level_png(3))
    with pytest.raises(CalibrationError, match="holds 1 different images; calibration needs at least 16"):
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
    assert next(quantiser.choices(Gate(cosine=0.9, top1_agreement=0))).keys() == set(quantiser.layers)
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
    gate = Gate(cosine=1 - 4 * quantiser.sensitivity[worst_first[2]], top1_agreement=1)
    left = [set(quantiser.layers) - quantised.keys() for quantised in quantiser.choices(gate)]
    assert 0 < len(left[0]) <= len(worst_first) // 2
    assert all(floats == set(worst_first[: len(floats)]) for floats in left)
    assert [len(floats) for floats in left] == sorted({len(floats) for floats in left})


def test_no_more_than_half_of_the_layers_are_given_up(checkpoint: Checkpoint) -> None:
    quantiser = quantiser_of(checkpoint, PIXELS)
    (last,) = quantiser.choices(Gate(cosine=1 - 1e-9, top1_agreement=1))
    assert len(quantiser.layers) - len(last) == len(quantiser.layers) // 2


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


def test_a_missed_gate_names_the_layers_to_blame(tiny_checkpoint: Path, images: Path, tmp_path: Path) -> None:
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    command += ["--precision", "int8", "--calibration", str(images), "--gate", "cosine=0.999999999"]
    with pytest.raises(SystemExit, match=r"cosine 0\.99\d+ \(gate .*even with 4 of 9 layers.*cosine: .*dense_\d \("):
        main(command)
    assert not (tmp_path / "models").exists()


def test_held_out_images_that_miss_the_gate_leave_more_layers_in_float32(
    tiny_checkpoint: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = model_export.bundles.convert.check_parity
    tries: list[int] = []

    def first_try_misses(model: Path, *rest: object) -> object:
        tries.append(len(model.read_bytes()))
        if len(tries) == 1:
            raise GateError("missed")
        return check(model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model_export.bundles.convert, "check_parity", first_try_misses)
    command = ["export", str(tiny_checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models")]
    main([*command, "--precision", "int8", "--calibration", str(images)])
    quantisation = load_bundle(tmp_path / "models" / "tiny" / "1").manifest.quantisation
    assert quantisation is not None
    assert len(quantisation.float_layers) == 1
    assert tries[1] > tries[0]


@pytest.mark.parametrize("nonsense", ["cosine", "cosine=2", "speed=1", "top1_agreement=x"])
def test_a_gate_that_means_nothing_is_refused(tiny_checkpoint: Path, nonsense: str) -> None:
    with pytest.raises(SystemExit):
        main(["export", str(tiny_checkpoint), "--name", "tiny", "--gate", nonsense])
