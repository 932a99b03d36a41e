import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest

from service.arrays import LogitBatch, PixelBatch
from service.bundles.bundle import load_bundle
from service.bundles.golden import GoldenMismatch
from service.engines.choice import candidates, choose_engine, cpu_engines
from service.engines.engine import Engine, EngineError
from service.engines.openvino_engine import OpenVinoEngine

CPU = ["CPUExecutionProvider"]
DIGITS = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"


class Double:
    """An engine that answers with its own number, on a clock that only passes move."""

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
    slow = Double("slow", clock, {8: 0.8})
    fast = Double("fast", clock, {8: 0.4}, error=0.5)
    wrong = Double("wrong", clock, {8: 0.01}, error=2)
    built = {"slow": lambda: slow, "fast": lambda: fast, "wrong": lambda: wrong, "broken": refuse}
    choice = choose_engine(built, prove, image_size=1)
    assert choice.engine is fast
    assert (choice.name, choice.golden_max_abs_error) == ("fast", 0.5)
    assert choice.considered == {
        "slow": "slow: 10.0 img/s in batches of 8",
        "fast": "fast: 20.0 img/s in batches of 8",
        "wrong": "golden logits differ",
        "broken": "cannot be built",
    }


def test_the_only_one_is_proven_and_not_measured(clock: list[float]) -> None:
    only = Double("only", clock, {}, error=0.1)
    choice = choose_engine({"a": lambda: only}, prove, 1)
    assert (choice.engine, choice.name, choice.golden_max_abs_error) == (only, "a", 0.1)
    assert choice.considered == {"a": "only: the only one"}


def test_without_any_that_passes_the_cause_is_raised(clock: list[float]) -> None:
    def wrong() -> Engine:
        return Double("wrong", clock, {8: 1}, error=2)

    with pytest.raises(EngineError, match="cannot be built"):
        choose_engine({"broken": refuse}, prove, 1)
    with pytest.raises(GoldenMismatch):
        choose_engine({"wrong": wrong}, prove, 1)
    with pytest.raises(EngineError, match="cannot be built"):
        choose_engine({"broken": refuse, "wrong": wrong}, prove, 1)


def test_an_engine_that_fails_when_it_is_measured_leaves_the_other(clock: list[float]) -> None:
    class Broken(Double):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            raise RuntimeError("no such instruction")

    whole, broken = Double("whole", clock, {8: 0.1}), Broken("broken", clock, {})
    choice = choose_engine({"a": lambda: whole, "b": lambda: broken}, prove, 1)
    assert choice.engine is whole
    assert choice.considered["b"] == "no such instruction"


def test_an_engine_that_is_not_chosen_is_held_by_nobody(clock: list[float]) -> None:
    wrong = Double("wrong", clock, {8: 0.1}, error=2)
    slow = Double("slow", clock, {8: 0.2})
    held = [weakref.ref(wrong), weakref.ref(slow)]
    builds = {"wrong": [wrong].pop, "slow": [slow].pop, "fast": lambda: Double("fast", clock, {8: 0.1})}
    del wrong, slow
    choice = choose_engine(builds, prove, 1)
    assert choice.name == "fast"
    assert [each() for each in held] == [None, None]


def test_a_broken_openvino_leaves_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "service.engines.openvino_engine", None)
    built = candidates(load_bundle(DIGITS), 1, "auto", CPU)
    choice = choose_engine(built, lambda engine: 0.0, 32)
    assert choice.engine.name.startswith("onnxruntime")
    assert "cannot be imported" in choice.considered["openvino"]


def test_both_engines_can_be_asked_for_by_name() -> None:
    bundle = load_bundle(DIGITS)
    assert list(candidates(bundle, 1, "auto", CPU)) == ["onnxruntime", "openvino"]
    assert list(candidates(bundle, 1, "openvino", CPU)) == ["openvino"]
    assert list(candidates(bundle, 1, "onnxruntime", CPU)) == ["onnxruntime"]
    assert list(candidates(bundle, 1, "auto", ["CUDAExecutionProvider"])) == ["CUDAExecutionProvider"]
    assert list(candidates(bundle, 1, "auto", ["AzureExecutionProvider"])) == ["onnxruntime"]


@pytest.mark.parametrize("provider", [["CUDAExecutionProvider"], ["AzureExecutionProvider"], CPU])
@pytest.mark.parametrize("wanted", ["auto", "onnxruntime", "openvino"])
def test_whatever_is_chosen_can_be_asked_for_by_its_name_again(wanted: str, provider: list[str]) -> None:
    """As the lanes after the first one, and the wide engine, do."""
    bundle = load_bundle(DIGITS)
    for name in candidates(bundle, 1, wanted, provider):
        assert list(candidates(bundle, 2, name, provider)) == [name]


def test_bf16_has_no_onnxruntime_engine_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(cpu_engines(DIGITS / "model.onnx", "bf16", 1)) == ["openvino"]
    bundle = load_bundle(DIGITS)
    bf16 = bundle.__class__(bundle.path, bundle.manifest.model_copy(update={"precision": "bf16"}), bundle.labels)
    with pytest.raises(EngineError, match=r"MIXER_ENGINE onnxruntime cannot run .*bf16.*openvino can"):
        candidates(bf16, 1, "onnxruntime", CPU)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EngineError, match="bf16 runs on a CPU only with openvino"):
        candidates(bf16, 1, "auto", CPU)


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
