import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.load.samples import Sample, Samples
from benchmarks.robustness.chaos import Outcome, holds, rows
from benchmarks.robustness.good_client import Seen
from benchmarks.robustness.processes import lanes
from tests.e2e.processes import running_service


def _seen(seconds: float = 0.01, *, refused: int = 0, failed_probes: int = 0) -> Seen:
    codes = ["429"] * refused + ["200"] * (200 - refused)
    return Seen(Samples([Sample(0, 0, seconds, code, 1) for code in codes]), probes=10, failed_probes=failed_probes)


def test_what_a_good_client_may_suffer() -> None:
    undisturbed = _seen()
    assert holds(_seen(0.1), undisturbed)
    assert holds(_seen(refused=2), undisturbed)
    assert not holds(_seen(0.11), undisturbed)
    assert not holds(_seen(refused=3), undisturbed)
    assert not holds(_seen(refused=200), undisturbed)
    assert not holds(_seen(failed_probes=1), undisturbed)


def test_a_fault_that_shuts_everybody_out_has_a_row() -> None:
    first, second = rows([Outcome("none", _seen(), 0.0), Outcome("a flood", _seen(refused=200), None)])
    assert (first["success %"], first["instead"], first["holds"]) == (100, "nothing", True)
    assert (second["success %"], second["instead"], second["p99 ms"], second["normal after s"]) == (
        0, {"429": 200}, None, None
    )  # fmt: skip


@pytest.fixture
def chaos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    def run(*flags: object) -> str:
        monkeypatch.setattr(sys, "argv", ["benchmarks", "chaos", *map(str, flags), "--out", str(tmp_path)])
        main()
        return (tmp_path / "chaos.md").read_text()

    return run


def test_faults_on_a_real_service_are_caused_and_a_lost_lane_costs_the_good_client_nothing(
    chaos: Callable[..., str],
) -> None:
    faults = ("damaged images", "unread answers", "a lane is killed")
    patient = ("--deadline-ms", "60000", "--latency-target-ms", "60000")  # however busy it is here
    with running_service("--lanes", "2", *patient) as service:
        before = {lane.pid for lane in lanes(service.process.pid)}
        told = [part for fault in faults for part in ("--fault", fault)]
        report = chaos("--url", service.url, "--pid", service.process.pid, "--minutes", 0.1, *told)
        after = {lane.pid for lane in lanes(service.process.pid)}
        killed = service.metrics()['mixer_lane_restarts_total{reason="crash"}']
    assert killed >= 1
    assert before - after
    success = {cells[0].strip("| "): cells[2] for line in report.splitlines() if len(cells := line.split(" | ")) == 9}
    assert success.keys() == {"fault", "---", "none", *faults}
    assert (success["none"], success["a lane is killed"]) == ("100.0", "100.0")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--fault", "an earthquake"), "fault 'an earthquake' is not one of stalled uploads,"),
        (("--fault", "a lane is killed"), "fault 'a lane is killed' needs --pid"),
        (("--minutes", 0.001), "not one good answer, but {'ConnectionRefusedError':"),
        (("--images", "nowhere"), "neither digits nor photographs nor a folder"),
    ],
)
def test_what_cannot_be_is_one_line(
    flags: tuple[object, ...], message: str, chaos: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as ended:
        chaos("--url", "http://127.0.0.1:9", *flags)
    assert str(ended.value.code).startswith("mixer-bench chaos: ")
    assert message in str(ended.value.code)
    assert not list(tmp_path.iterdir())
