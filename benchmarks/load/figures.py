"""From samples and accounts to the figures of a run, and whether they say anything of the server."""

import errno
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.load.generator import OUT_OF_ROOM, Generator
from benchmarks.load.result import GeneratorSide, Latency, ServedModel, ServerSpent
from benchmarks.load.samples import Samples, Seconds, quantile_ms
from benchmarks.load.server_side import Snapshot, Totals, totals
from benchmarks.robustness.memory import memory_growth

_LATE = 0.1  # the share of the latency at p99 that the generator's own lateness may make up at p99
_LATE_MS = 2.0  # or this: a scheduler's time slice on a machine that both share
_SENT = 0.99  # the share of the queries of a window that must have been sent in it
_BUSY = 0.85  # the share of a core beyond which the generator, which has one, is the bottleneck


@dataclass(frozen=True)
class Window:
    """The part of a run that counts: its edges in seconds since the run began, and both sides' accounts there."""

    start: float
    end: float
    before: Snapshot
    after: Snapshot
    generator_cpu_seconds: float
    memory: list[float]  # of the server, bytes

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


@dataclass(frozen=True)
class _Accounts:
    """The server's metrics at both edges, parsed."""

    before: Totals
    after: Totals


def figures(
    generator: Generator,
    sent_again: int,
    window: Window,
    objective: float,
    served: ServedModel | None,
    gemm_peak_gflops: dict[str, float],
) -> dict[str, object]:
    """The parts of a Run that are measured.

    Latencies, codes and the generator's lag are of the queries that should have been sent in the window; rates are of
    the answers that came in it, so that a backlog that is worked off later, or stems from before, does not count.
    `objective` is in seconds.
    """
    samples = generator.samples
    asked, answered = samples.intended_in(window.start, window.end), samples.done_in(window.start, window.end)
    latency = _latency(asked.latencies())
    late = asked if generator.queries_are_due else generator.held.intended_in(window.start, window.end)
    side = _generator_side(asked, late, sent_again, window)
    accounts = _accounts(window, served)
    changed = _not_the_same(window, accounts)
    spent = _server_spent(answered.images(), window, accounts, served, gemm_peak_gflops)
    return {
        "seconds": window.seconds,
        "images_per_second": answered.images() / window.seconds,
        "good_images_per_second": answered.images(objective) / window.seconds,
        "objective_ms": objective * 1000,
        "queries": len(asked),
        "missed": asked.missed(objective),
        "latency": latency,
        "refused_p99_ms": quantile_ms(asked.latencies("429"), 99),
        "codes": asked.codes(),
        "generator": side,
        "server": ServerSpent() if changed else spent,
        "invalid": [
            *(late_queries(side, latency) if generator.queries_are_due else late_timers(side, latency)),
            *invalid(side, asked.codes()),
            *changed,
        ],
    }


def late_queries(generator: GeneratorSide, latency: Latency) -> list[str]:
    """Why an open loop's lateness made its figures; empty if it did not."""
    if generator.lag_p99_ms is not None:
        who, lag = "1 % of the queries were", generator.lag_p99_ms
    else:  # so few queries that each counts
        who, lag = "a query was", generator.lag_max_ms or 0.0
    allowed = max(_LATE_MS, _LATE * (latency.p99 or latency.max or 0.0))
    return [f"{who} sent over {lag:.1f} ms late ({allowed:.1f} allowed)"] if lag > allowed else []


def late_timers(generator: GeneratorSide, latency: Latency) -> list[str]:
    """The same of a closed loop, by its timers' median: while the server is at work the generator may wait as well.

    A server without a good answer is not made slow by its generator.
    """
    lag, allowed = generator.lag_p50_ms or 0.0, _LATE * (latency.p50 or latency.max or float("inf"))
    return [f"half of the timers were over {lag:.2f} ms late ({allowed:.2f} allowed)"] if lag > allowed else []


def invalid(generator: GeneratorSide, codes: Mapping[str, int]) -> list[str]:
    """Why the generator was the bottleneck; empty if it was not."""
    reasons = []
    if generator.sent_share < _SENT:
        reasons.append(f"only {generator.sent_share:.1%} of the queries were sent in their time")
    if generator.cpu_share > _BUSY:
        reasons.append(f"the generator took {generator.cpu_share:.0%} of its core")
    for code in (errno.errorcode[number] for number in OUT_OF_ROOM):
        if code in codes:
            reasons.append(f"the generator could not open {codes[code]} of its connections ({code})")
    return reasons


def _not_the_same(window: Window, accounts: _Accounts) -> list[str]:
    """Why the server was not one and the same all the time; empty if it was."""
    if failure := window.before.failure or window.after.failure:
        return [f"what the server spent is not known: {failure}"]
    began, begins = (edge.get("process_start_time_seconds") for edge in (accounts.before, accounts.after))
    if began != begins:
        return ["the server was started again"]
    return []


def _generator_side(asked: Samples, late: Samples, sent_again: int, window: Window) -> GeneratorSide:
    lags = late.lags()
    sent = sum(sample.sent < window.end + _LATE_MS / 1000 for sample in asked.all)  # who is due at the edge may be late
    return GeneratorSide(
        lag_p50_ms=quantile_ms(lags, 50),
        lag_p99_ms=quantile_ms(lags, 99),
        lag_max_ms=float(lags.max()) * 1000 if len(lags) else None,
        cpu_share=window.generator_cpu_seconds / window.seconds,
        sent_again=sent_again,
        sent_share=sent / len(asked) if len(asked) else 1.0,
    )


def _latency(seconds: Seconds) -> Latency:
    p50, p90, p95, p99, p99_9 = (quantile_ms(seconds, percent) for percent in (50, 90, 95, 99, 99.9))
    longest = float(seconds.max()) * 1000 if len(seconds) else None
    return Latency(p50=p50, p90=p90, p95=p95, p99=p99, p99_9=p99_9, max=longest)


def _accounts(window: Window, served: ServedModel | None) -> _Accounts:
    return _Accounts(*(totals(edge.metrics, served) for edge in (window.before, window.after)))


def _server_spent(
    images: int,
    window: Window,
    accounts: _Accounts,
    served: ServedModel | None,
    gemm_peak_gflops: dict[str, float],
) -> ServerSpent:
    after = accounts.after
    began, ended = window.before.cpu_seconds, window.after.cpu_seconds
    cpu = None if began is None or ended is None else ended - began
    spent = {name: value - accounts.before.get(name, 0.0) for name, value in after.items()}
    rate = images / window.seconds
    cores = after.get("mixer_cores")
    alone = after.get("mixer_predicted_capacity_images_per_second")
    gflops = rate * 2 * served.gmacs if served and served.gmacs else None
    peak = gemm_peak_gflops.get(served.model["precision"]) if served else None
    return ServerSpent(
        cpu_seconds=cpu,
        images_per_cpu_second=_over(images, cpu),
        peak_memory_bytes=max(window.memory, default=None),
        memory_growth=memory_growth(window.memory),
        mean_batch=_over(spent.get("mixer_batch_size_sum"), spent.get("mixer_batch_size_count")),
        cores_allowed=cores,
        images_per_second_per_core_allowed=_over(rate, cores),
        images_per_engine_core_second=_over(
            spent.get("mixer_batch_size_sum"), spent.get("mixer_engine_core_seconds_total")
        ),
        front_seconds=_over(spent.get("mixer_front_cpu_seconds_total"), images),
        decode_seconds=_over(spent.get("decode"), spent.get("mixer_batch_size_sum")),
        infer_seconds=_over(spent.get("infer"), spent.get("mixer_batch_size_sum")),
        lane_restarts=spent.get("mixer_lane_restarts_total"),
        percent_of_engine_alone=_over(100 * rate, alone),
        percent_of_gemm_peak=_over(100 * gflops, peak) if gflops else None,
    )


def _over(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None
