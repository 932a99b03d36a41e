import json
from pathlib import Path

from benchmarks.environment import describe_environment
from benchmarks.report import Result, Row, write_report


def test_a_report_holds_command_environment_and_tables(tmp_path: Path) -> None:
    tables: dict[str, list[Row]] = {
        "rows": [{"batch": 1, "img/s": 1234, "invariant": None}, {"batch": 2, "img/s": 5.5, "invariant": False}],
        "nothing": [],
        "ratios": [{"ours": 2.0}],
    }
    environment: dict[str, object] = {"cpu": "x", "commit": "abc"}
    path = write_report(
        tmp_path / "new",
        "engine",
        "python -m benchmarks engine",
        environment,
        Result(tables, "How to read it.", b"png"),
    )
    text = path.read_text()
    assert "| batch | img/s | invariant |\n| --- | --- | --- |\n| 1 | 1,234 | - |\n| 2 | 5.5 | no |\n" in text
    assert "\n\n## ratios\n\n| ours |\n" in text
    assert "| 2.0 |\n\nHow to read it.\n\n- cpu: x\n" in text
    assert "nothing" not in text
    assert "`python -m benchmarks engine`" in text
    assert "- commit: abc" in text
    assert "![engine](engine.png)" in text
    assert path.with_suffix(".png").read_bytes() == b"png"
    report = json.loads(path.with_suffix(".json").read_text())
    assert report.pop("date")
    assert report == {
        "schema_version": 1,
        "command": "python -m benchmarks engine",
        "environment": environment,
        **tables,
    }


def test_a_report_without_a_picture_names_none(tmp_path: Path) -> None:
    path = write_report(tmp_path, "load", "command", {}, Result({"rows": [{"a": 1}]}))
    assert "![" not in path.read_text()
    assert not path.with_suffix(".png").exists()


def test_the_environment_names_machine_versions_and_commit() -> None:
    environment = describe_environment()
    assert environment["commit"]
    assert environment["cpu"]
    assert {"onnxruntime", "pillow"} <= environment["packages"].keys()  # type: ignore[attr-defined]
