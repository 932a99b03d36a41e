import pytest

from benchmarks.load.connection import Connections
from benchmarks.load.figures import Window, figures, invalid, late_queries
from benchmarks.load.generator import Generator
from benchmarks.load.result import GeneratorSide, Latency, ServedModel, ServerSpent
from benchmarks.load.samples import Sample, Samples
from benchmarks.load.server_side import Snapshot
from tests.benchmarks.load.fake_server import metrics


def _window(**changes: object) -> Window:
    return Window(
        **{"start": 1.0, "end": 3.0, "before": Snapshot(), "after": Snapshot(), "generator_cpu_seconds": 0.1,
           "memory": [], **changes}
    )  # type: ignore[arg-type] # fmt: skip


def _ran(*samples: Sample, open_loop: bool = True) -> Generator:
    generator = Generator(Connections("http://127.0.0.1"), timeout=1)
    generator.samples, generator.queries_are_due = Samples(list(samples)), open_loop
    return generator


def _served() -> ServedModel:
    return ServedModel(
        model={"model": "digits", "version": "1", "precision": "int8"}, build={}, pass_seconds={}, gmacs=0.5, cores=2,
        lanes=2, lane_threads=1,
    )  # fmt: skip


def test_rates_count_answers_when_they_came_and_latencies_queries_when_they_were_due() -> None:
    generator = _ran(
        *[
            Sample(0.5, 0.5, 1.5, "200", 1),  # from the warm-up, answered in the window
            Sample(1.0, 1.0, 1.25, "200", 1),
            Sample(2.0, 2.0, 2.5, "429", 1),
            Sample(2.5, 2.5, 3.5, "200", 1),  # a backlog that is worked off after the window
        ]
    )
    parts = figures(generator, 0, _window(), 0.5, None, {})
    assert parts["images_per_second"] == 1.0
    assert parts["good_images_per_second"] == 0.5
    assert parts["queries"] == 3
    assert parts["missed"] == 2
    assert parts["codes"] == {"200": 2, "429": 1}
    latency = parts["latency"]
    assert isinstance(latency, Latency)
    assert (latency.p50, latency.p99, latency.max) == (625, None, 1000)


def test_what_the_server_spent_is_the_difference_of_its_accounts() -> None:
    before, after = (metrics(n) for n in (100, 300))
    generator = _ran(*[Sample(2, 2, 2 + i / 1000, "200", 1) for i in range(200)])
    window = _window(before=Snapshot(before, 3.0), after=Snapshot(after, 5.0), memory=[2.0**20, 2.0**21])
    server = figures(generator, 0, window, 0.5, _served(), {"int8": 1000.0})["server"]
    assert isinstance(server, ServerSpent)
    assert server.cpu_seconds == pytest.approx(2)
    assert server.images_per_cpu_second == pytest.approx(100)
    assert server.images_per_engine_core_second == pytest.approx(200)
    assert server.images_per_second_per_core_allowed == pytest.approx(50)
    assert server.front_seconds == pytest.approx(0.002)
    assert server.decode_seconds == pytest.approx(0.003)
    assert server.infer_seconds == pytest.approx(0.01)
    assert server.lane_restarts == 4
    assert server.mean_batch == pytest.approx(2)
    assert server.peak_memory_bytes == 2**21
    assert server.percent_of_gemm_peak == pytest.approx(10)  # 100/s of 1 GFLOP each


def test_a_server_that_says_nothing_has_no_figures() -> None:
    server = figures(_ran(Sample(2, 2, 2.1, "200", 1)), 0, _window(), 0.5, None, {})["server"]
    assert server == ServerSpent()


def test_in_a_closed_loop_late_timers_tell_of_the_generator() -> None:
    generator = _ran(*[Sample(2, 2, 2.004, "200", 1)] * 200, open_loop=False)
    generator.held = Samples([Sample(2, 2.0005, 2.0005, "200", 0)] * 200)
    side, reasons = (figures(generator, 0, _window(), 0.5, None, {})[name] for name in ("generator", "invalid"))
    assert isinstance(side, GeneratorSide)
    assert side.lag_p50_ms == pytest.approx(0.5)
    assert reasons == ["half of the timers were over 0.50 ms late (0.40 allowed)"]


def test_of_a_server_far_away_metrics_do_not_say_what_its_lanes_spent() -> None:
    window = _window(before=Snapshot(metrics(100)), after=Snapshot(metrics(300)))
    server = figures(_ran(Sample(2, 2, 2.1, "200", 1)), 0, window, 0.5, None, {})["server"]
    assert isinstance(server, ServerSpent)
    assert (server.cpu_seconds, server.peak_memory_bytes) == (None, None)
    assert server.mean_batch == pytest.approx(2)


def test_a_server_that_was_started_again_and_spent_more_than_before_makes_a_run_invalid_too() -> None:
    window = _window(before=Snapshot(metrics(10, started=1)), after=Snapshot(metrics(300, started=2)))
    parts = figures(_ran(Sample(2, 2, 2.1, "200", 1)), 0, window, 0.5, None, {})
    assert parts["invalid"] == ["the server was started again"]
    assert parts["server"] == ServerSpent()


def _generator(**changes: float | None) -> GeneratorSide:
    well: dict[str, float | None] = {
        "lag_p50_ms": 0.1, "lag_p99_ms": 0.5, "lag_max_ms": 1.0, "cpu_share": 0.3, "sent_share": 1.0
    }  # fmt: skip
    return GeneratorSide.model_validate(well | changes)


def _reasons(generator: GeneratorSide, latency: Latency) -> list[str]:
    return late_queries(generator, latency) + invalid(generator, {})


def _latency(p99: float | None, longest: float = 20.0) -> Latency:
    return Latency(p50=None, p90=None, p95=None, p99=p99, p99_9=None, max=longest)


@pytest.mark.parametrize(
    ("changes", "p99_ms", "reason"),
    [
        (
            {"lag_p99_ms": 3.0, "lag_max_ms": 3.0},
            20.0,
            "1 % of the queries were sent over 3.0 ms late (2.0 allowed)",
        ),
        (
            {"lag_p99_ms": None, "lag_max_ms": 300.0},
            None,
            "a query was sent over 300.0 ms late (2.0 allowed)",
        ),
        ({"sent_share": 0.5}, 20.0, "only 50.0% of the queries were sent in their time"),
        ({"cpu_share": 0.9}, 20.0, "the generator took 90% of its core"),
    ],
)
def test_a_generator_that_is_the_bottleneck_says_so(
    changes: dict[str, float | None], p99_ms: float | None, reason: str
) -> None:
    assert _reasons(_generator(), _latency(p99_ms)) == []
    assert _reasons(_generator(**changes), _latency(p99_ms)) == [reason]


def test_lateness_that_does_not_matter_is_forgiven() -> None:
    assert _reasons(_generator(lag_p99_ms=3.0, lag_max_ms=9.0), _latency(500.0)) == []
    assert _reasons(_generator(lag_p99_ms=None, lag_max_ms=9.0), _latency(None, 500.0)) == []


def test_who_can_open_no_more_connections_measures_itself() -> None:
    (reason,) = invalid(_generator(), {"200": 90, "ConnectionRefusedError": 3, "EMFILE": 7})
    assert reason == "the generator could not open 7 of its connections (EMFILE)"


def test_a_server_that_answers_nobody_does_not_make_its_generator_late() -> None:
    generator = _ran(Sample(2, 2, 2.9, "timeout", 1), open_loop=False)
    generator.held = Samples([Sample(2, 2.0005, 2.0005, "200", 0)] * 200)
    assert figures(generator, 0, _window(), 0.5, None, {})["invalid"] == []
