import json
from pathlib import Path

import pytest

from benchmarks.load.result import LoadResult, ResultError, ServedModel, read_result
from benchmarks.load.write import write_result
from tests.benchmarks.load.runs import make_run


def _result(**changes: object) -> LoadResult:
    served = ServedModel(
        model={"model": "digits"}, build={"version": "1"}, pass_seconds={1: 0.001, 8: 0.006}, gmacs=0.1, cores=2,
        lanes=2, lane_threads=1,
    )  # fmt: skip
    runs = [make_run(), make_run(scenario="sweep", loop="open", clients=None, offered_images_per_second=50.0)]
    whole = {
        "command": "python -m benchmarks load", "date": "2026-01-01", "environment": {"cpu": "a", "cores_allowed": 2.0},
        "served": {"mixer": served}, "gemm_peak_gflops": {"int8": 100.0}, "runs": runs,
        "findings": {"mixer": {"knee": 50.0, "server rate": None}},
    }  # fmt: skip
    return LoadResult.model_validate(whole | changes)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    result = _result()
    path = write_result(tmp_path, "load", result)
    assert path == tmp_path / "load.md"
    assert read_result(tmp_path / "load.json") == result
    assert (tmp_path / "load.png").read_bytes().startswith(b"\x89PNG")
    markdown = path.read_text()
    assert "`python -m benchmarks load`" in markdown
    assert "| mixer | offline | 8 clients | 100.0 |" in markdown
    assert "| mixer | server rate | - |" in markdown
    assert "lanes x threads 2 x 1" in markdown


def test_a_soaks_memory_is_a_table(tmp_path: Path) -> None:
    samples = [
        {"second": 0.0, "bytes": 2.0**20, "connections": 9.0},
        {"second": 90.2, "bytes": None, "connections": None},
    ]
    result = _result(runs=[make_run(scenario="soak", server={"memory": samples})])
    markdown = write_result(tmp_path, "load", result).read_text()
    assert "## memory\n\n| target | second | MiB | open connections |" in markdown
    assert "| mixer | 0 | 1.0 | 9.0 |\n| mixer | 90 | - | - |" in markdown
    assert read_result(tmp_path / "load.json") == result


def test_a_result_without_runs_can_be_written(tmp_path: Path) -> None:
    write_result(tmp_path, "load", _result(runs=[], findings={}))
    assert read_result(tmp_path / "load.json").runs == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 3}, "schema_version: Input should be 4"),
        ({"schema_version": 5}, "schema_version: Input should be 4"),
        ({"runs": None}, "runs: Input should be a valid"),
        ({"colour": "red"}, "colour: Extra inputs are not permitted"),
    ],
)
def test_other_schemas_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "load.json"
    path.write_text(json.dumps(json.loads(_result().model_dump_json()) | change))
    with pytest.raises(ResultError, match=f"{path}: {message}"):
        read_result(path)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match="No such file"):
        read_result(tmp_path / "missing.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(ResultError, match="Invalid JSON"):
        read_result(tmp_path / "text.json")
