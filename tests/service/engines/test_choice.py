import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import load_bundle
from service.bundles.golden import GoldenMismatch
from service.engines.choice import BySize, candidates, choose_engine, cpu_engines
from service.engines.engine import Engine, EngineError
from service.engines.openvino_engine import OpenVinoEngine
from service.settings import Settings

DIGITS = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"


class Double:
    """An engine that answers with its own number, on a clock that only passes move."""

    threads = 1

    def __init__(self, name: str, clock: list[float], seconds_by_size: dict[int, float], error: float = 0.0) -> None:
        self.name, self.clock, self.seconds, self.error = name, clock, seconds_by_size, error

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self.clock[0] += self.seconds[len(pixels)]
        return np.full((len(pixels), 1), self.error, np.float32)


def prove(engine: Engine) -> float:
    assert isinstance(engine, Double)
    if engine.error > 1:
        raise GoldenMismatch("golden logits differ")
    return engine.error


def refuse() -> Engine:
    raise EngineError("cannot be built")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_the_fastest_engine_that_passes_is_chosen(clock: list[float]) -> None:
    slow = Double("slow", clock, {1: 0.1, 2: 0.2})
    fast = Double("fast", clock, {1: 0.06, 2: 0.1}, error=0.5)
    wrong = Double("wrong", clock, {1: 0.01, 2: 0.01}, error=2)
    built = {"slow": [lambda: slow], "fast": [lambda: fast], "wrong": [lambda: wrong], "broken": [refuse]}
    choice = choose_engine(built, prove, image_size=1, max_batch_size=2)
    assert choice.engine is fast
    assert choice.golden_max_abs_error == 0.5
    assert choice.curve == pytest.approx({1: 0.06, 2: 0.1})
    assert choice.considered == {
        "slow": "slow: 10.0 img/s in batches of 2",
        "fast": "fast: 20.0 img/s in batches of 2",
        "wrong": "golden logits differ",
        "broken": "cannot be built",
    }


def test_without_any_that_passes_the_cause_is_raised(clock: list[float]) -> None:
    with pytest.raises(EngineError, match="cannot be built"):
        choose_engine({"broken": [refuse]}, prove, 1, 1)
    with pytest.raises(GoldenMismatch):
        choose_engine({"wrong": [lambda: Double("wrong", clock, {1: 1}, error=2)]}, prove, 1, 1)


def test_each_batch_size_runs_the_way_that_is_fastest_for_it(clock: list[float]) -> None:
    together = Double("together", clock, {1: 0.1, 2: 0.2, 4: 0.4}, error=0.1)
    split = Double("split", clock, {1: 0.2, 2: 0.19, 3: 0.3, 4: 0.3}, error=0.2)
    choice = choose_engine({"a": [lambda: together, lambda: split]}, prove, 1, 4)
    assert choice.curve == pytest.approx({1: 0.1, 2: 0.19, 4: 0.3})
    assert isinstance(choice.engine, BySize)
    assert choice.engine.name == "together for 1; split for 2, 4"
    ways = [choice.engine.run(np.zeros((size, 1, 1, 3), np.uint8))[0, 0] for size in (1, 2, 3, 4)]
    assert ways == [np.float32(way) for way in (0.1, 0.2, 0.2, 0.2)]


def test_a_second_way_that_fails_leaves_the_first(clock: list[float]) -> None:
    whole = Double("whole", clock, {1: 0.1, 2: 0.2})
    wrong = Double("wrong", clock, {1: 0.01, 2: 0.01}, error=2)

    class Broken(Double):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            raise RuntimeError("no such instruction")

    broken = Broken("broken", clock, {})
    choice = choose_engine({"a": [lambda: whole, lambda: wrong], "b": [lambda: broken]}, prove, 1, 2)
    assert choice.engine is whole
    assert choice.considered["a, another way"] == "golden logits differ"
    assert choice.considered["b"] == "no such instruction"


def test_a_broken_openvino_leaves_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.engines.openvino_engine", None)
    built = candidates(load_bundle(DIGITS), 1, Settings())
    choice = choose_engine(built, lambda engine: 0.0, 32, 1)
    assert choice.engine.name.startswith("onnxruntime")
    assert "cannot be imported" in choice.considered["openvino"]


def test_both_engines_can_be_asked_for_by_name() -> None:
    bundle = load_bundle(DIGITS)
    assert list(candidates(bundle, 1, Settings())) == ["onnxruntime", "openvino"]
    assert list(candidates(bundle, 1, Settings(engine="openvino"))) == ["openvino"]
    assert list(candidates(bundle, 1, Settings(providers=["CUDAExecutionProvider"]))) == ["CUDAExecutionProvider"]
    assert list(candidates(bundle, 1, Settings(providers=["AzureExecutionProvider"]))) == ["onnxruntime"]


def test_bf16_has_no_onnxruntime_engine_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(cpu_engines(DIGITS / "model.onnx", "bf16", 1)) == ["openvino"]
    bundle = load_bundle(DIGITS)
    bf16 = bundle.__class__(bundle.path, bundle.manifest.model_copy(update={"precision": "bf16"}), bundle.labels)
    with pytest.raises(EngineError, match=r"MIXER_ENGINE onnxruntime cannot run .*bf16.*openvino can"):
        candidates(bf16, 1, Settings(engine="onnxruntime"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="bf16 runs on a CPU only with openvino"):
        candidates(bf16, 1, Settings())


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_openvino_answers_each_image_alone_however_a_batch_is_split(streams: int, size: int) -> None:
    engine = OpenVinoEngine(DIGITS / "model.onnx", 2, "int8", streams)
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (size, 32, 32, 3), np.uint8)
    alone = np.concatenate([engine.run(image[None]) for image in images])
    together = engine.run(images)
    np.testing.assert_allclose(together, alone, atol=1e-4 * np.abs(alone).max())
    images[1::2] = random.integers(0, 256, images[1::2].shape, np.uint8)
    np.testing.assert_array_equal(engine.run(images)[::2], together[::2])


def test_openvino_says_what_it_cannot_compile(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"model\.onnx"):
        OpenVinoEngine(tmp_path / "model.onnx", 1, "fp32")


def test_openvino_reports_nothing_to_anyone(tmp_path: Path) -> None:
    """Its Python package sends an event when it is imported, through a package that `service` keeps out."""
    code = (
        "import service, socket\n"
        "def refuse(*_): raise AssertionError('a connection was attempted')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "import service.engines.openvino_engine, sys\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"HOME": str(tmp_path), "PATH": ""}, timeout=60)
    assert list(tmp_path.iterdir()) == []
