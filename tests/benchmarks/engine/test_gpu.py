"""The arithmetic and the order of the GPU benchmark; it has run on no GPU here."""

import time
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.engine import gpu
from benchmarks.engine.gpu import interleave, paper_rows, rows
from service.bundles.bundle import load_bundle
from service.engines.gpu.device import Gpu

DIGITS = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"


def test_the_share_of_the_gemm_rate_is_of_the_same_round() -> None:
    # 0.5 GMACs are 1 GFLOP an image: 100 TFLOP/s is 100,000 images a second, and half of each round's GEMM rate.
    rates = {("ours", 8): [100e3, 200e3, 50e3], ("theirs", 8): [25e3, 50e3, 12.5e3]}
    ours, theirs = rows(rates, gemm=[200e12, 400e12, 100e12], gmacs=0.5)
    assert (ours["contender"], ours["batch"], ours["img/s"], ours["TFLOP/s"]) == ("ours", 8, 100_000, 100.0)
    assert (ours["of the bf16 GEMM rate"], ours["GEMM TFLOP/s"], ours["spread"]) == ("50%", 200.0, "150%")
    assert theirs["of the bf16 GEMM rate"] == "12%"


def test_each_contender_at_its_best_beside_the_paper() -> None:
    manifest = load_bundle(DIGITS).manifest.model_copy(update={"variant": "B/16", "image_size": 224, "gmacs": 12.5})
    rates = {("ours", 1): [2e3], ("ours", 64): [8e3, 9e3, 10e3], ("theirs", 1): [3e3], ("theirs", 64): [1e3]}
    found = paper_rows(manifest, rates, gemm=[400e12, 450e12, 500e12])
    columns = ("model", "TPUv3 img/s/core", "engine", "batch", "img/s/core", "% of GEMM peak")
    assert sorted(tuple(row[column] for column in columns) for row in found) == [
        ("B/16", 1384, "ours", 64, 9000, 50),
        ("B/16", 1384, "theirs", 1, 3000, 16.7),
    ]
    assert paper_rows(load_bundle(DIGITS).manifest, rates, gemm=[450e12]) == []
    assert paper_rows(manifest.model_copy(update={"image_size": 448}), rates, gemm=[450e12]) == []


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only passes move."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_rounds_are_interleaved_and_rates_count_images(clock: list[float]) -> None:
    order: list[str] = []

    def taking(seconds: float, name: str) -> None:
        clock[0] += seconds
        order.append(name)

    passes = {("a", 8): lambda: taking(0.5, "a"), ("b", 1): lambda: taking(0.25, "b")}
    rates, gemm = interleave(passes, lambda: taking(1, "gemm"), rounds=2, seconds=1)
    assert rates == {("a", 8): [16, 16], ("b", 1): [4, 4]}
    assert gemm == [2 * 8192**3] * 2
    gemm_runs, a_runs, b_runs = ["gemm"] * 2, ["a"] * 3, ["b"] * 5  # a second of each, after one that is not counted
    assert order[6:] == gemm_runs + a_runs + 2 * b_runs + a_runs + gemm_runs  # after two of each to warm up


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it but the GPU's own work."""
    monkeypatch.setattr(gpu, "_cuda_passes", lambda bundle, inputs: {("ours", 1): lambda: None})
    monkeypatch.setattr(gpu, "_torch_passes", lambda bundle, inputs: {})
    monkeypatch.setattr(gpu, "_gemm", lambda: lambda: None)
    monkeypatch.setattr(gpu, "find_gpu", lambda: Gpu("a GPU", "9.0", "13.0"))
    line = ["benchmarks", "gpu", "--bundle", str(DIGITS), "--rounds", "1", "--seconds", "0.001", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", line)
    main()
    assert "| a GPU | XS/4 int8 | ours |" in (tmp_path / "gpu.md").read_text()
