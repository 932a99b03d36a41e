import json
from pathlib import Path

from benchmarks.environment import describe_environment
from benchmarks.report import write_report


def test_a_report_holds_command_environment_and_rows(tmp_path: Path) -> None:
    rows = [{"batch": 1, "img/s": 1234}, {"batch": 2, "img/s": 5.5}]
    path = write_report(tmp_path / "new", "engine", "python -m benchmarks engine", {"cpu": "x", "commit": "abc"}, rows)
    text = path.read_text()
    assert "| batch | img/s |\n| --- | --- |\n| 1 | 1,234 |\n| 2 | 5.5 |\n" in text
    assert "`python -m benchmarks engine`" in text
    assert "- commit: abc" in text
    assert json.loads(path.with_suffix(".json").read_text())["rows"] == rows


def test_the_environment_names_machine_versions_and_commit() -> None:
    environment = describe_environment()
    assert environment["commit"]
    assert environment["cpu"]
    assert {"onnxruntime", "pillow"} <= environment["packages"].keys()  # type: ignore[attr-defined]
