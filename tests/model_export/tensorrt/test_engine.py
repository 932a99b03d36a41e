"""`export --format tensorrt` as a whole, where only TensorRT and the driver are stand-ins."""

import argparse
from pathlib import Path

import numpy as np
import pytest

import model_export.commands.tensorrt
import service.engines.gpu.tensorrt_engine
from model_export.__main__ import main
from model_export.bundles.publish import verify
from model_export.tensorrt.builder import Builder
from model_export.tensorrt.engine import Compiler, find_compiler
from model_export.tensorrt.errors import TensorRTError
from service.bundles.bundle import BundleError, load_bundle
from service.engines.gpu.device import Gpu, NoGpu
from service.engines.gpu.tensorrt_engine import TensorRTEngine
from tests.gpu_doubles import GPU, StandInOrt
from tests.model_export.tensorrt.fake_tensorrt import FakeTensorRT

PROVIDER = "TensorrtExecutionProvider"


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    fake = FakeTensorRT(10)

    def find(way: str, cache: Path) -> tuple[Compiler, Gpu]:
        return Builder(GPU, cache, fake), GPU

    monkeypatch.setattr(model_export.commands.tensorrt, "find_compiler", find)
    return fake


def export(checkpoint: Path, folder: Path) -> Path:
    command = ["export", str(checkpoint), "--name", "tiny", "--repository", str(folder / "models")]
    main([*command, "--format", "tensorrt", "--profile", "2,4,6", "--engine-cache", str(folder / "cache")])
    return folder / "models" / "tiny" / "1"


def test_the_manifest_says_where_the_engine_holds(tiny_checkpoint: Path, tmp_path: Path, trt: FakeTensorRT) -> None:
    path = export(tiny_checkpoint, tmp_path)
    manifest = load_bundle(path).manifest
    part = manifest.tensorrt
    assert part is not None
    assert (part.provider, part.model, part.version) == (PROVIDER, "tensorrt/model_ctx.onnx", trt.__version__)
    assert (part.gpu, part.compute_capability, part.driver_api) == (GPU.name, GPU.compute_capability, GPU.driver_api)
    assert part.profile == (2, 4, 6)
    assert {"tensorrt/model.engine", "tensorrt/model_ctx.onnx"} <= manifest.files.keys()
    assert verify(path) <= manifest.parity.gate.max_abs_error
    (path / "tensorrt" / "model.engine").write_bytes(b"another plan")
    with pytest.raises(BundleError, match=r"model\.engine: sha256"):
        load_bundle(path)


def test_the_service_runs_what_was_exported(
    tiny_checkpoint: Path, tmp_path: Path, trt: FakeTensorRT, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = load_bundle(export(tiny_checkpoint, tmp_path))
    monkeypatch.setattr(
        service.engines.gpu.tensorrt_engine, "version_of", {"libnvinfer.so.10": trt.__version__}.__getitem__
    )
    ort = StandInOrt(PROVIDER, model=bundle.model_path)
    engine = TensorRTEngine(bundle, PROVIDER, ort=ort, gpu=lambda: GPU)
    assert ort.opened[0]["path"] == bundle.path / "tensorrt" / "model_ctx.onnx"
    assert engine.run(np.zeros((7, 16, 16, 3), np.uint8)).shape == (7, 7)


def test_a_failed_build_leaves_nothing_behind(tiny_checkpoint: Path, tmp_path: Path, trt: FakeTensorRT) -> None:
    trt.plan = None
    with pytest.raises(SystemExit, match="built no engine"):
        export(tiny_checkpoint, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_driver_nothing_is_begun(tmp_path: Path) -> None:
    def no_gpu() -> Gpu:
        raise NoGpu("there is no NVIDIA driver here: libcuda.so.1 cannot be loaded")

    with pytest.raises(TensorRTError, match=r"the machine whose GPU it is for, but .*libcuda\.so\.1"):
        find_compiler("rtx", tmp_path, gpu=no_gpu)


@pytest.mark.parametrize("profile", ["8,1,64", "0,1,2", "1,2", "1,2,3,4", "a,b,c"])
def test_profiles_that_make_no_sense(profile: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "x", "--name", "x", "--format", "tensorrt", "--profile", profile])
    assert f"argument --profile: '{profile}' is not three ascending batch sizes" in capsys.readouterr().err


def test_the_documented_flags_and_defaults() -> None:
    page = (Path(__file__).parent.parent.parent.parent / "docs" / "gpu.md").read_text()
    table = page.partition("| flag of `export` |")[2].partition("\n\n")[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| `--")]
    documented = {cells[0].strip(" `").split()[0]: cells[1].strip(" `") for cells in rows}
    parser = argparse.ArgumentParser()
    model_export.commands.tensorrt.add_arguments(parser)
    defaults = vars(parser.parse_args([]))
    assert {flag: documented[flag] for flag in ("--tensorrt-with", "--profile")} == {
        "--tensorrt-with": defaults["tensorrt_with"],
        "--profile": ",".join(map(str, defaults["profile"])),
    }
    assert documented["--engine-cache"].replace("~", str(Path.home())) == str(defaults["engine_cache"])
    assert documented["--format"] == defaults["format"]
