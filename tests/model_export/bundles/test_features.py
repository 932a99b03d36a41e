"""Features in bundles: the paper's equations up to the head, in every precision, gated, with and without a head."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import save_file

import model_export.bundles.convert
from model_export.__main__ import main
from model_export.bundles.onnx_export import export_onnx
from model_export.checkpoints.checkpoint import read_checkpoint
from service.bundles.bundle import load_bundle
from service.bundles.manifest import Precision
from service.engines.choice import cpu_engines
from tests.model_export import oracle

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("headless") / "backbone.safetensors"
    save_file({name: w for name, w in oracle.random_timm_weights().items() if not name.startswith("head.")}, path)
    return path


def expected_features() -> np.ndarray:
    """The oracle's, by a head that hands its input on."""
    identity = {"head.weight": np.eye(16), "head.bias": np.zeros(16)}
    return np.stack([oracle.forward(oracle.random_timm_weights() | identity, image, 0.5, 0.5) for image in PIXELS])


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-5), ("int8", 1e-5), ("fp16", 2e-2), ("bf16", 2e-1)])
@pytest.mark.parametrize("classes", [7, 0])
def test_they_are_the_pooled_representation_before_the_head(
    tiny_checkpoint: Path, tmp_path: Path, precision: Precision, error: float, classes: int
) -> None:
    """Of int8 no layer is quantised here: what that costs is for the gate."""
    checkpoint = read_checkpoint(tiny_checkpoint)
    checkpoint = checkpoint if classes else checkpoint.with_new_head(0)
    model = tmp_path / "model.onnx"
    model.write_bytes(export_onnx(checkpoint, precision))
    expected = expected_features()
    for build in cpu_engines(model, precision, 1).values():
        engine = build()
        outputs = engine.outputs(PIXELS)
        assert list(outputs) == (["logits", "features"] if classes else ["features"]), engine.name
        np.testing.assert_allclose(outputs["features"], expected, atol=error * np.abs(expected).max())
        assert np.array_equal(engine.run(PIXELS), next(iter(outputs.values())))


@pytest.mark.parametrize("precision", ["fp32", "int8", "bf16"])
@pytest.mark.parametrize("head", [True, False])
def test_every_precision_is_gated_on_every_engine_and_verified(
    tiny_checkpoint: Path,
    headless: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    precision: str,
    head: bool,
) -> None:
    source = tiny_checkpoint if head else headless
    command = ["export", str(source), "--name", "m", "--repository", str(tmp_path / "models"), "--precision", precision]
    main([*command, *(["--calibration", str(images)] if precision == "int8" else [])])
    summary = capsys.readouterr().err
    assert ("7 classes" if head else "no head, 16 features") in summary
    assert ("features' cosine" in summary, "top-1 agreement" in summary) == (head, head)
    bundle = load_bundle(tmp_path / "models" / "m" / "1")
    manifest = bundle.manifest
    assert manifest.task == ("image-classification" if head else "image-feature-extraction")
    assert manifest.outputs == ({"logits": 7} if head else {}) | {"features": 16}
    assert {name: golden.shape for name, golden in bundle.golden()[1].items()} == {
        name: (8, width) for name, width in manifest.outputs.items()
    }
    assert manifest.features is not None
    engines = ["openvino"] if precision == "bf16" else ["onnxruntime", "openvino"]
    assert [parity.engine.split()[0] for parity in manifest.features.parity] == engines
    for parity in manifest.features.parity:
        assert parity.top1_agreement is parity.gate.top1_agreement is None
        if precision == "fp32":
            assert parity.max_abs_error <= (parity.gate.max_abs_error or 0)
        else:
            assert parity.cosine >= (parity.gate.cosine or 1)
    assert (manifest.parity is None) == (not head)
    main(["verify", str(bundle.path)])
    assert "golden answers reproduced" in capsys.readouterr().out


def spoil(model: bytes) -> bytes:
    """The model with one of its features off by 0.01, and its logits as they are."""
    proto = onnx.load_from_string(model)
    shift = next(tensor for tensor in proto.graph.initializer if tensor.name == "features.shift")
    values = numpy_helper.to_array(shift).copy()
    values[3] += 0.01
    shift.CopyFrom(numpy_helper.from_array(values, shift.name))
    spoiled: bytes = proto.SerializeToString()
    return spoiled


@pytest.mark.parametrize("head", [True, False])
def test_wrong_features_fail_the_export(
    tiny_checkpoint: Path, headless: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: bool
) -> None:
    export = model_export.bundles.convert.export_onnx
    monkeypatch.setattr(model_export.bundles.convert, "export_onnx", lambda *how: spoil(export(*how)))
    source = tiny_checkpoint if head else headless
    with pytest.raises(SystemExit, match=r"parity gate failed on onnxruntime .*, features: max abs error 0\.01"):
        main(["export", str(source), "--name", "m", "--repository", str(tmp_path / "models")])
    assert list(tmp_path.iterdir()) == []


def test_labels_for_a_model_without_a_head_are_refused(headless: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(SystemExit, match="2 labels for 0 classes"):
        main(
            ["export", str(headless), "--name", "m", "--repository", str(tmp_path), "--labels", f"{tmp_path}/names.txt"]
        )


def test_a_bundle_without_a_head_is_not_evaluated(headless: Path, tmp_path: Path) -> None:
    main(["export", str(headless), "--name", "m", "--repository", str(tmp_path)])
    with pytest.raises(SystemExit, match="has no head, so it names no class"):
        main(["evaluate", str(tmp_path / "m" / "1"), "--data", "digits"])


def test_logits_are_the_same_numbers_with_features_beside_them(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """No bit of an answer depends on there being another output: who asks for logits alone pays with nothing."""
    whole = onnx.load_from_string(export_onnx(read_checkpoint(tiny_checkpoint)))
    alone = onnx.ModelProto()
    alone.CopyFrom(whole)
    del alone.graph.output[1]
    for node in [node for node in alone.graph.node if node.name.startswith("features")]:
        alone.graph.node.remove(node)
    (tmp_path / "whole.onnx").write_bytes(whole.SerializeToString())
    (tmp_path / "alone.onnx").write_bytes(alone.SerializeToString())
    for name in ("onnxruntime", "openvino"):
        answers = [cpu_engines(tmp_path / file, "fp32", 1)[name]().run(PIXELS) for file in ("whole.onnx", "alone.onnx")]
        assert np.array_equal(*answers), name
