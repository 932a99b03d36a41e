from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.engine.decode import decode_row, plain
from benchmarks.photograph import photograph
from tests.doubles import encode


def test_a_ratio_is_the_median_of_the_rounds() -> None:
    data = encode(photograph(300, 260), "JPEG")
    row = decode_row((300, 260), data, plain(data), [100, 10, 1000], [200, 50, 3000])
    assert (row["plain ms"], row["ours ms"], row["ratio"]) == (10, 5, 3)
    assert (row["decoded at"], row["mean difference"], row["max difference"]) == ("300x260", 0, 0)


def test_it_runs_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["benchmarks", "decode", "--sizes", "300x260,1100x1030", "--rounds", "1", "--seconds", "0.01"]
    monkeypatch.setattr("sys.argv", [*line, "--out", str(tmp_path)])
    main()
    text = (tmp_path / "decode.md").read_text()
    assert "| 300x260 |" in text
    assert "| 550x515 |" in text
