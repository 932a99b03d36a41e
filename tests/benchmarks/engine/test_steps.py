import pytest

from benchmarks.__main__ import main
from benchmarks.engine.steps import STEPS, step_rows
from tests.benchmarks.engine.test_measurement import measurement


def test_a_gain_is_over_the_step_before_and_over_the_first() -> None:
    steps = [measurement("plain", [10, 5, 20]), measurement("better", [20, 10, 30]), measurement("best", [20, 30, 60])]
    rows = step_rows(steps)
    assert [(row["step"], row["img/s"], row["gain"], row["in all"]) for row in rows] == [
        ("plain", 10, 1.0, 1.0),
        ("better", 20, 2.0, 2.0),
        ("best", 30, 2.0, 3.0),
    ]


def test_every_step_runs_for_real(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path_factory.mktemp("results")
    line = ["benchmarks", "steps", "--variants", "tiny/4", "--batch-sizes", "2", "--rounds", "1", "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", [*line, "--threads", "2", "--out", str(out)])
    main()
    assert [step.name in (out / "steps.md").read_text() for step in STEPS] == [True] * len(STEPS)
