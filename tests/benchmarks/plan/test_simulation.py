"""The simulated pod against queueing theory, and against the real scheduler on a clock that jumps."""

import asyncio
import math

import numpy as np
import pytest

from benchmarks.plan.simulation import Pod, play, simulate
from service.errors import Overloaded
from service.lanes.wire import Item
from service.metrics import Metrics
from service.scheduling.admission import Admission
from service.scheduling.pass_log import PassLog
from service.scheduling.promises import Patience, Promises
from service.scheduling.scheduler import Scheduler
from service.scheduling.shared_cores import SharedCores
from service.scheduling.times import DecodeTimes, PassTimes
from tests.virtual_time import VirtualLanes, run_virtually

CURVE = {1: 0.010, 2: 0.015, 4: 0.025}


def pod(curve=CURVE, decode_seconds=0.0, lanes=1, latency_target=math.inf, **others) -> Pod:
    return Pod(curve, decode_seconds, lanes, latency_target=latency_target, **others)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_at_a_time_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    """M/D/1: the mean wait is rho s / 2 (1 - rho)."""
    simulated = simulate(pod({1: 0.01}), load / 0.01, images=200_000)
    assert simulated.latencies.mean() - 0.01 == pytest.approx(load * 0.01 / (2 * (1 - load)), rel=0.05)


def test_decoding_is_a_part_of_a_lane_s_work() -> None:
    simulated = simulate(pod({1: 0.004}, decode_seconds=0.006), 60, images=200_000)
    assert simulated.latencies.mean() - 0.01 == pytest.approx(0.6 * 0.01 / (2 * 0.4), rel=0.05)


def test_the_front_is_a_queue_of_its_own() -> None:
    """In front of lanes of which there are enough, and faster: what leaves it waits for none (Friedman, 1965)."""
    simulated = simulate(pod({1: 0.001}, lanes=8, decode_seconds=0.004, front_seconds=0.01), 60, images=200_000)
    assert simulated.latencies.mean() - 0.015 == pytest.approx(0.6 * 0.01 / (2 * 0.4), rel=0.05)


def test_a_batch_is_decoded_image_by_image_and_then_passed() -> None:
    expected = [0, 0.010 + 0.003, 0.015 + 0.006, 0.020 + 0.009, 0.025 + 0.012]
    assert pod(decode_seconds=0.003, lanes=2).seconds == pytest.approx(expected)


def test_without_load_latency_is_decoding_and_a_pass_over_one() -> None:
    simulated = simulate(pod(decode_seconds=0.003), 0.01, images=1000)
    assert simulated.latencies == pytest.approx(0.013)


def test_an_idle_pod_refuses_nobody() -> None:
    assert simulate(pod(latency_target=0.005), 0.01, images=1000).refused == 0


@pytest.mark.parametrize(
    ("overloaded", "capacity"),
    [
        (pod(latency_target=0.35), 4 / 0.025),
        (pod(latency_target=0.35, pass_stretch=2.0), 4 / 0.05),
        (pod(latency_target=0.35, lanes=3), 12 / 0.025),
        (pod(decode_seconds=0.02, latency_target=0.35), 4 / 0.105),
        (pod(front_seconds=0.02, latency_target=0.35), 50),
    ],
    ids=["a lane", "stretched passes", "three lanes", "decoding", "the front"],
)
def test_overload_is_answered_at_capacity_and_the_rest_refused(overloaded: Pod, capacity: float) -> None:
    rate = 4 * capacity
    simulated = simulate(overloaded, rate)
    assert rate * (1 - simulated.refused) == pytest.approx(capacity, rel=0.03)
    assert simulated.latencies.max() <= 0.35 + 1e-9 + overloaded.seconds[-1]  # the promise, and a batch before it


def test_batches_grow_with_load() -> None:
    """At 80 % of what batches of four do, one at a time would long be overloaded."""
    simulated = simulate(pod(), 128)
    assert simulated.refused == 0
    assert np.percentile(simulated.latencies, 99) < 0.2


def test_who_names_no_target_gets_the_services_own() -> None:
    assert Pod(CURVE, 0, 1).target == 0.35  # 48 images in twelve passes of 25 ms are 0.3 s
    assert Pod({1: 0.1}, 0, 1).target == pytest.approx(4.8)
    assert Pod({1: 0.1}, 0, 2).target == pytest.approx(2.4)


def test_the_seed_decides() -> None:
    first, again, other = (simulate(pod(), 100, seed=seed).latencies for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first[:10] != other[:10]).any()


def arrivals_at(rate: int) -> list[float]:
    arrivals: list[float] = np.cumsum(np.random.default_rng(rate).exponential(1 / rate, 600)).tolist()
    return arrivals


@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("decode_seconds", [0.0, 0.004])
@pytest.mark.parametrize("rate", [20, 100, 150, 400])
def test_each_image_fares_as_with_the_services_own_scheduler(rate: int, decode_seconds: float, lanes: int) -> None:
    real = run_virtually(_serve(arrivals_at(rate), lanes, decode_seconds))
    simulated = play(pod(decode_seconds=decode_seconds, lanes=lanes, latency_target=0.35), arrivals_at(rate))
    assert simulated.refused == real.count(None) / len(real)
    assert simulated.latencies == pytest.approx([latency for latency in real if latency is not None])


class _Model:
    """What Admission needs of a model, around lanes that take exactly what is forecast."""

    serves = True

    def __init__(self, lanes: int, decode_seconds: float) -> None:
        times, cores = PassTimes(CURVE), SharedCores(lanes)
        pool = VirtualLanes(lanes, times, decode_seconds)
        self.metrics = Metrics().add_model("m", "1", 1)
        decode_times = DecodeTimes(max(decode_seconds, 1e-6))
        self.promises = Promises(pool, 4, times, decode_times, Patience(target=0.35, deadline=5))
        self.scheduler = Scheduler(pool, self.promises, cores, metrics=self.metrics, pass_log=PassLog())


async def _serve(arrivals: list[float], lanes: int, decode_seconds: float) -> list[float | None]:
    """Latencies by the real Admission and Scheduler, None of those refused."""
    loop, model, admission = asyncio.get_running_loop(), _Model(lanes, decode_seconds), Admission(10**6, 10**12)
    model.scheduler.start()
    begun = loop.time()

    async def one(came: float) -> float | None:
        await asyncio.sleep(begun + came - loop.time())
        ticket = model.promises.ticket()
        ticket.decode_seconds = decode_seconds
        try:
            with admission.admit(model, ticket):
                ticket.item = Item(bytes([100]), 0)
                model.scheduler.enqueue(ticket)
                assert ticket.outcome
                await ticket.outcome
        except Overloaded:
            return None
        return loop.time() - begun - came

    latencies = await asyncio.gather(*map(one, arrivals))
    await model.scheduler.stop()
    return latencies
