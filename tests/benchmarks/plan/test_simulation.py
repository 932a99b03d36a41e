"""The simulated pod against queueing theory, and against the real scheduler on a clock that jumps."""

import asyncio
import math

import numpy as np
import pytest
from service.lanes.shared_cores import Turns

from benchmarks.plan.simulation import Pod, play, simulate
from service.engines.curve import PassTimes
from service.errors import Overloaded
from service.metrics import Metrics
from service.scheduling.admission import Admission
from service.scheduling.forecast import Prediction
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.scheduling.scheduler import BatchPolicy, Scheduler
from service.scheduling.ticket import Ticket
from tests.doubles import EchoEngine, level_pixels
from tests.virtual_time import VirtualDecodePool, VirtualRunner, run_virtually

CURVE = {1: 0.010, 2: 0.015, 4: 0.025}


def pod(curve=CURVE, decode_seconds=0.0, decode_threads=1, latency_target=math.inf, **others) -> Pod:
    return Pod(curve, decode_seconds, decode_threads, 1, latency_target=latency_target, **others)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_at_a_time_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    """M/D/1: the mean wait is rho s / 2 (1 - rho)."""
    simulated = simulate(pod({1: 0.01}), load / 0.01, images=200_000)
    assert simulated.latencies.mean() - 0.01 == pytest.approx(load * 0.01 / (2 * (1 - load)), rel=0.05)


def test_decoding_before_the_engine_is_a_second_queue() -> None:
    """A slower decoder in front: what leaves it never waits for the faster engine (Friedman, 1965)."""
    simulated = simulate(pod({1: 0.005}, decode_seconds=0.01), 60, images=200_000)
    assert simulated.latencies.mean() - 0.015 == pytest.approx(0.6 * 0.01 / (2 * 0.4), rel=0.05)


def test_the_event_loop_is_a_queue_of_its_own() -> None:
    """In front of decoders of which there are enough, and slower than the engine (Friedman, 1965)."""
    simulated = simulate(pod({1: 0.001}, decode_threads=8, decode_seconds=0.004, loop_seconds=0.01), 60, images=200_000)
    assert simulated.latencies.mean() - 0.015 == pytest.approx(0.6 * 0.01 / (2 * 0.4), rel=0.05)


def test_taking_turns_the_engines_threads_decode_one_image_each_at_a_time() -> None:
    turns = Pod(CURVE, 0.003, 0, 2)
    assert turns.seconds == pytest.approx([0, 0.010 + 0.003, 0.015 + 0.003, 0.020 + 0.006, 0.025 + 0.006])


def test_without_load_latency_is_decoding_and_a_pass_over_one() -> None:
    simulated = simulate(pod(decode_seconds=0.003), 0.01, images=1000)
    assert simulated.latencies == pytest.approx(0.013)


@pytest.mark.parametrize(
    ("overloaded", "capacity"),
    [
        (pod(latency_target=0.35), 4 / 0.025),
        (pod(latency_target=0.35, pass_stretch=2.0), 4 / 0.05),
        (pod(decode_seconds=0.02, latency_target=0.35), 50),
        (pod(decode_seconds=0.02, decode_threads=4, latency_target=0.35), 4 / 0.025),
        (pod(decode_seconds=0.005, decode_threads=0, latency_target=0.35), 4 / 0.045),
        (pod(loop_seconds=0.02, latency_target=0.35), 50),
    ],
    ids=["engine", "stretched engine", "decoding", "four decode threads", "turns", "event loop"],
)
def test_overload_is_answered_at_capacity_and_the_rest_refused(overloaded: Pod, capacity: float) -> None:
    rate = 4 * capacity
    simulated = simulate(overloaded, rate)
    assert rate * (1 - simulated.refused) == pytest.approx(capacity, rel=0.03)
    assert simulated.latencies.max() <= 0.35 + 1e-9 + 0.025 * 2  # the promise, and a pass that began before it


def test_batches_grow_with_load() -> None:
    """At 80 % of what batches of four do, one at a time would long be overloaded."""
    simulated = simulate(pod(), 128)
    assert simulated.refused == 0
    assert np.percentile(simulated.latencies, 99) < 0.2


def test_who_names_no_target_gets_the_services_own() -> None:
    assert Pod(CURVE, 0, 1, 1).target == 0.35  # 48 images in twelve passes of 25 ms are 0.3 s
    assert Pod({1: 0.1}, 0, 1, 1).target == pytest.approx(4.8)


def test_the_seed_decides() -> None:
    first, again, other = (simulate(pod(), 100, seed=seed).latencies for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first[:10] != other[:10]).any()


def arrivals_at(rate: int) -> list[float]:
    arrivals: list[float] = np.cumsum(np.random.default_rng(rate).exponential(1 / rate, 600)).tolist()
    return arrivals


@pytest.mark.parametrize("decode_seconds", [0.0, 0.004])
@pytest.mark.parametrize("rate", [20, 100, 150, 400])
def test_each_image_fares_as_with_the_services_own_scheduler(rate: int, decode_seconds: float) -> None:
    real = run_virtually(_serve(arrivals_at(rate), VirtualDecodePool(2, decode_seconds)))
    simulated = play(pod(decode_seconds=decode_seconds, decode_threads=2, latency_target=0.35), arrivals_at(rate))
    assert simulated.refused == real.count(None) / len(real)
    assert simulated.latencies == pytest.approx([latency for latency in real if latency is not None])


@pytest.mark.parametrize("rate", [20, 60, 100, 300])
def test_taking_turns_is_close_to_the_services(rate: int) -> None:
    """Decoding is taken for a part of the pass here."""
    turns = Turns(4)
    real = run_virtually(_serve(arrivals_at(rate), VirtualDecodePool(1, 0.004, turns), turns))
    simulated = play(pod(decode_seconds=0.004, decode_threads=0, latency_target=0.35), arrivals_at(rate))
    answered = [latency for latency in real if latency is not None]
    assert simulated.refused == pytest.approx(real.count(None) / len(real), abs=0.05)
    assert np.percentile(simulated.latencies, [50, 99]) == pytest.approx(np.percentile(answered, [50, 99]), rel=0.2)


async def _serve(arrivals: list[float], pool: VirtualDecodePool, turns: Turns | None = None) -> list[float | None]:
    """Latencies by the real Admission and Scheduler, None of those refused."""
    loop, times, metrics = asyncio.get_running_loop(), PassTimes(CURVE), Metrics()
    runner = VirtualRunner(times, turns)
    policy = BatchPolicy(4, between_passes=pool.seconds_before_pass)
    scheduler = Scheduler(
        "m", EchoEngine(), runner, policy=policy, pass_times=times, metrics=metrics, pass_log=PassLog()
    )
    metrics.add_model("m", 1)
    admission = Admission(10**6, 10**12, Prediction(pool, LoopLag()), metrics)
    scheduler.start()
    begun = loop.time()

    async def one(came: float) -> float | None:
        await asyncio.sleep(begun + came - loop.time())
        ticket = Ticket(loop.time() + 5, due=loop.time() + 0.35)
        try:
            with admission.admit(scheduler, ticket):
                await pool.run(lambda data: data, b"")
                await scheduler.submit(level_pixels(1), ticket)
        except Overloaded:
            return None
        return loop.time() - begun - came

    latencies = await asyncio.gather(*map(one, arrivals))
    await scheduler.close()
    return latencies
