import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.cross_check import command, loads
from benchmarks.cross_check.comparison import Comparison, Figures
from benchmarks.cross_check.perf_analyzer import PerfAnalyzer, PerfAnalyzerMissingError, closed, measure
from benchmarks.load.session import Options
from tests.benchmarks.load.fake_server import FakeServer, fake_server_thread


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    monkeypatch.setattr(command, "Options", partial(Options, warmup=0))
    with fake_server_thread() as server:
        yield server


def _main(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "cross-check", *map(str, arguments)])
    main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--url", "http://127.0.0.1:9"), "http://127.0.0.1:9/v1/classify: "),
        (("--url", "127.0.0.1:9"), "is not an http:// or https:// URL"),
        (("--url", "https://127.0.0.1:9"), "speak plain http only"),
        (("--images", "nowhere"), "neither digits nor photographs nor a folder"),
        (("--rate", "-5"), "--rate: -5 is not more than 0"),
        (("--rounds", "0"), "--rounds: 0 is not more than 0"),
        (("--seconds", "0"), "--seconds: 0 is not more than 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    # It ends before it would ask there, or there is nobody.
    url = () if "--url" in arguments else ("--url", "http://127.0.0.1:9")
    with pytest.raises(SystemExit) as ended:
        _main(monkeypatch, *url, *arguments, "--out", tmp_path)
    # argparse prints its line itself, below the usage.
    line = ended.value.code if isinstance(ended.value.code, str) else capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("mixer-bench cross-check: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def _missing(*_: object) -> PerfAnalyzer:
    raise PerfAnalyzerMissingError("it is not built for this")


def _without_loadgen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    monkeypatch.delitem(sys.modules, "benchmarks.cross_check.loadgen", raising=False)
    monkeypatch.delattr("benchmarks.cross_check.loadgen", raising=False)


QUICK = ("--seconds", 0.2, "--rounds", 1)


def test_a_generator_that_is_missing_leaves_the_other_s_rows_and_a_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer
) -> None:
    _without_loadgen(monkeypatch)
    monkeypatch.setattr(command, "fetch_perf_analyzer", lambda _: PerfAnalyzer(Path("perf_analyzer"), {}))
    monkeypatch.setattr(loads.perf_analyzer, "measure", lambda *_: Figures(100))
    _main(monkeypatch, "--url", server.url, *QUICK, "--out", tmp_path)
    report = (tmp_path / "cross-check.md").read_text()
    assert "| 8 clients, v2 | perf_analyzer | img/s |" in report
    assert "Without LoadGen: " in report
    assert "pip install mlcommons-loadgen" in report


def test_without_either_there_is_nothing_to_compare(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer
) -> None:
    _without_loadgen(monkeypatch)
    monkeypatch.setattr(command, "fetch_perf_analyzer", _missing)
    with pytest.raises(SystemExit, match=r"Without LoadGen: .*; Without perf_analyzer: it is not built for this"):
        _main(monkeypatch, "--url", server.url, *QUICK, "--out", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_load_that_fails_is_a_note_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: FakeServer
) -> None:
    def fails(_: int) -> Figures:
        raise RuntimeError("perf_analyzer took longer than 130 s")

    good = Comparison("one client", "LoadGen SingleStream", lambda _: Figures(1), lambda _: Figures(1))
    bad = Comparison("8 clients, v2", "perf_analyzer", lambda _: Figures(1), fails)
    monkeypatch.setattr(command, "beside_loadgen", lambda *_: [good])
    monkeypatch.setattr(command, "beside_perf_analyzer", lambda *_: [bad])
    monkeypatch.setattr(command, "fetch_perf_analyzer", lambda _: PerfAnalyzer(Path("perf_analyzer"), {}))
    _main(monkeypatch, "--url", server.url, *QUICK, "--out", tmp_path)
    report = (tmp_path / "cross-check.md").read_text()
    assert "| one client | LoadGen SingleStream | img/s |" in report
    assert "perf_analyzer, 8 clients, v2, ended early: perf_analyzer took longer than 130 s" in report


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exec sleep 60", "perf_analyzer took longer than 0.2 s"),
        ("echo no; echo such model >&2; exit 1", "perf_analyzer failed: no such model$"),
        (
            "while [ $# -gt 1 ]; do [ $1 = -f ] && echo strange > $2; shift; done",
            "no table .*, but 'strange",
        ),
    ],
)
def test_perf_analyzer_that_fails_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str, message: str
) -> None:
    program = tmp_path / "perf_analyzer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("benchmarks.cross_check.perf_analyzer._LONGEST", 0.1 if "sleep" in script else 60)
    with pytest.raises(RuntimeError, match=message) as failed:
        measure(PerfAnalyzer(program, {}), "http://127.0.0.1:9", "digits", [b"image"], 0.1, closed(1))
    assert "\n" not in str(failed.value)
