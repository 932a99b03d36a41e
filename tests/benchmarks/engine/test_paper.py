import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.engine import published
from benchmarks.engine.agreement import Agreement
from benchmarks.engine.columns.column import Column, Precision
from benchmarks.engine.measurement import Measurement
from benchmarks.engine.paper import beside_the_best_products, paper_rows
from benchmarks.engine.published import IMAGE_SIZE, TPU_V3, TPU_V3_PEAK, beside_the_paper
from benchmarks.engine.subject import CLASSES, Subject, make_subject
from model_export.variants import config_of

QUICK = ["--rounds", "1", "--seconds", "0.001", "--threads", "1", "--batch-size", "2"]


@pytest.mark.parametrize(
    ("variant", "gmacs", "share"),  # multiply-accumulates as timm and mmpretrain count them; percent of 61.5 TFLOP/s
    [
        ("S/32", 1.0, 37.4),
        ("B/32", 3.2, 44.3),
        ("S/16", 3.8, 49.0),
        ("B/16", 12.6, 56.7),
        ("L/32", 11.2, 48.1),
        ("L/16", 44.6, 60.7),
        ("H/14", 121.0, 76.4),
    ],
)
def test_the_papers_figures_and_what_they_are_worth(variant: str, gmacs: float, share: float) -> None:
    config = config_of(variant, CLASSES)
    assert config.image_size == IMAGE_SIZE
    assert config.macs / 1e9 == pytest.approx(gmacs, rel=0.02)
    row = beside_the_paper(variant, 2 * config.macs / 1e9, "ours", batch=8, rate=1, peak=1)
    assert row["TPUv3 % of nominal peak"] == pytest.approx(share, abs=0.5)


def test_all_variants_of_the_paper_are_there() -> None:
    assert list(TPU_V3) == ["S/32", "B/32", "S/16", "B/16", "L/32", "L/16", "H/14"]
    assert TPU_V3_PEAK == 61_500


def test_both_shares_are_products_done_over_products_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "TPU_V3", {"B/16": 1000})
    monkeypatch.setattr(published, "TPU_V3_PEAK", 4000)
    assert beside_the_paper("B/16", gflop=2, engine="ours", batch=8, rate=30, peak=80) == {
        "model": "B/16",
        "GFLOP/image": 2,
        "TPUv3 img/s/core": 1000,
        "TPUv3 % of nominal peak": 50,
        "engine": "ours",
        "batch": 8,
        "img/s/core": 30,
        "GFLOP/s/core": 60,
        "GEMM GFLOP/s/core": 80,
        "% of GEMM peak": 75,
    }


def measurement(model: str, name: str, precision: Precision, rate: float, peak: float | None = 80) -> Measurement:
    column = Column(name, precision, lambda files, threads: pytest.fail("nothing is run"), ours=True)
    return Measurement(model, 2, 8, column, [rate], 2.0, peak, Agreement(1.0, 1.0, batch_invariant=True))


def test_the_fastest_engine_of_each_precision_stands_for_it_by_core() -> None:
    rows = paper_rows(
        [
            measurement("S/32", "bf16 slow", "bf16", 10),
            measurement("S/32", "bf16 fast", "bf16", 20),
            measurement("S/32", "int8", "int8", 30, peak=160),
            measurement("B/16", "int8", "int8", 4, peak=160),
        ]
    )
    columns = ("model", "engine", "img/s/core", "GEMM GFLOP/s/core", "% of GEMM peak")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("S/32", "bf16 fast", 10, 40, 50),
        ("S/32", "int8", 15, 80, 37.5),
        ("B/16", "int8", 2, 80, 5),
    ]


def test_the_peak_is_the_machines_and_so_the_best_beside_any_variant() -> None:
    found = beside_the_best_products(
        [
            measurement("S/32", "bf16", "bf16", 10, peak=80),
            measurement("S/32", "int8", "int8", 10, peak=160),
            measurement("B/16", "bf16", "bf16", 10, peak=100),
            measurement("B/16", "int8", "int8", 10, peak=150),
        ]
    )
    assert [m.peak for m in found] == [100, 160, 100, 160]


def test_the_command_measures_our_engines_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TPU_V3, "tiny/4", 1000)
    line = ["benchmarks", "paper", "--variants", "tiny/4", *QUICK, "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", line)
    main()
    report = json.loads((tmp_path / "paper.json").read_text())
    assert [row["model"] for row in report["rows"]] == ["tiny/4"] * 2
    assert [row["precision"] for row in report["each engine"]] == ["bf16"] * 2 + ["int8"] * 3
    assert report["command"] == " ".join(["python", "-m", *line])
    fastest = max(row["img/s"] for row in report["each engine"] if row["precision"] == "int8")
    assert report["rows"][1]["img/s/core"] == pytest.approx(fastest, abs=0.1)  # on one thread
    assert "| tiny/4 | " in (tmp_path / "paper.md").read_text()


def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make_the_small_one(variant: str) -> Subject:
        if variant != "tiny/4":
            raise KeyboardInterrupt
        return make_subject(variant)

    monkeypatch.setitem(TPU_V3, "tiny/4", 1000)
    monkeypatch.setattr("benchmarks.engine.subject.make_subject", make_the_small_one)
    options = ["--variants", "tiny/4,H/14", "--precisions", "fp32", *QUICK, "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["benchmarks", "paper", *options])
    with pytest.raises(KeyboardInterrupt):
        main()
    report = json.loads((tmp_path / "paper.json").read_text())
    assert [row["model"] for row in report["rows"]] == ["tiny/4"]


@pytest.mark.parametrize("option", ["--variants", "--precisions"])
def test_a_wrong_name_is_one_sentence(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "paper", option, "S/33"])
    with pytest.raises(SystemExit):
        main()
    assert f"argument {option}: S/33: must be of" in capsys.readouterr().err
