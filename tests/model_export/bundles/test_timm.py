"""Against timm itself.

It is installed without its dependencies: what it imports from torchvision, which would pull in CUDA, is replaced, as a
Mixer uses none of it.
"""

import sys
from collections.abc import Iterator
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from model_export.__main__ import main
from model_export.bundles.reference import reference_outputs
from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint
from service.engines.onnx_engine import OnnxEngine


class Nothing(type):
    """A class with every attribute, each another such class."""

    def __getattr__(cls, name: str) -> "Nothing":
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name, (), {})


class NoTorchvision(MetaPathFinder, Loader):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] == "torchvision" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(Nothing("torchvision", (), {}), name)  # type: ignore[method-assign]
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


@pytest.fixture(scope="module")
def timm() -> Iterator[Any]:
    if find_spec("timm") is None:
        pytest.skip("timm is not installed (make setup installs it)")
    finder = NoTorchvision()
    sys.meta_path.insert(0, finder)
    try:
        yield pytest.importorskip("timm", exc_type=ImportError)
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]


def random_model(timm: Any, name: str, **options: Any) -> torch.nn.Module:
    """Every weight is random: timm starts heads and some biases at zero, where mistakes would hide."""
    torch.manual_seed(0)
    model: torch.nn.Module = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize(
    ("name", "options", "variant"),
    [
        ("mixer_s32_224", {"num_classes": 21}, "S/32"),
        ("mixer_s16_224", {"num_classes": 5, "img_size": 64}, "S/16"),
        ("mixer_s16_224", {"num_classes": 3, "img_size": 48, "mlp_ratio": (0.25, 1.5)}, "custom/16"),
    ],
)
def test_bundles_answer_like_timm(timm: Any, tmp_path: Path, name: str, options: dict[str, Any], variant: str) -> None:
    model = random_model(timm, name, **options)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    checkpoint = read_checkpoint(tmp_path / "model.safetensors")
    assert (checkpoint.config.variant, checkpoint.config.classes) == (variant, options["num_classes"])
    size = options.get("img_size", 224)
    pixels = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), np.uint8)
    with torch.no_grad():
        expected = model((torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5).numpy()
    np.testing.assert_allclose(reference_outputs(checkpoint, pixels)["logits"], expected, atol=1e-4)
    main(["export", str(tmp_path / "model.safetensors"), "--name", "m", "--repository", str(tmp_path)])
    engine = OnnxEngine(tmp_path / "m" / "1" / "model.onnx", 1, ["CPUExecutionProvider"])
    np.testing.assert_allclose(engine.run(pixels), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "cause"), [("gmixer_12_224", "gMixer"), ("resmlp_12_224", "ResMLP"), ("gmlp_ti16_224", "gMLP")]
)
def test_relatives(timm: Any, tmp_path: Path, name: str, cause: str) -> None:
    save_file(timm.create_model(name).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"is a {cause}"):
        read_checkpoint(tmp_path / "model.safetensors")


def test_a_folder_saved_for_the_hub(timm: Any, tmp_path: Path) -> None:
    from timm.models import save_for_hf  # noqa: PLC0415 - needs the fixture

    miil = {"num_classes": 11221, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear", "crop_pct": 0.9}
    model = random_model(timm, "mixer_s32_224", pretrained_cfg_overlay=miil)
    save_for_hf(model, tmp_path, model_config={"label_names": [f"class {i}" for i in range(11221)]})
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.config.classes == 11221
    assert checkpoint.labels is not None
    assert checkpoint.labels[-1] == "class 11220"
    spec = checkpoint.preprocessing
    assert (spec.resize_short, spec.interpolation, spec.mean, spec.std) == (248, "bilinear", (0, 0, 0), (1, 1, 1))


def test_models_that_are_not_square(timm: Any, tmp_path: Path) -> None:
    from timm.models import save_for_hf  # noqa: PLC0415 - needs the fixture

    model = random_model(timm, "mixer_s16_224", num_classes=3, img_size=(16, 64))
    save_for_hf(model, tmp_path / "hub", model_args={"img_size": (16, 64)})
    with pytest.raises(CheckpointError, match=r"config\.json: its img_size says 16x64 pixels; only square"):
        read_checkpoint(tmp_path / "hub")
    save_file(model.state_dict(), tmp_path / "bare.safetensors")  # four patches are all that it says
    assert any(
        "images of 32x32 pixels are assumed" in note for note in read_checkpoint(tmp_path / "bare.safetensors").notes
    )


@pytest.mark.parametrize("channels", [1, 4])
def test_models_of_other_than_rgb(timm: Any, tmp_path: Path, channels: int) -> None:
    from timm.models import save_for_hf  # noqa: PLC0415 - needs the fixture

    model = random_model(timm, "mixer_s32_224", num_classes=3, in_chans=channels)
    save_for_hf(model, tmp_path / "hub", model_args={"in_chans": channels})
    save_file(model.state_dict(), tmp_path / "bare.safetensors")
    for source in (tmp_path / "hub", tmp_path / "bare.safetensors"):
        with pytest.raises(CheckpointError, match=f"{channels} colour channels.* only RGB is served"):
            read_checkpoint(source)
