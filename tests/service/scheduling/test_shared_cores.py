from collections import Counter

import pytest

from service.scheduling.shared_cores import SharedCores


class Sharer:
    """A model with so many batches to serve on so many lanes, each a second of `threads` cores."""

    def __init__(self, cores: SharedCores, waiting: int, lanes: int = 100, threads: int = 1) -> None:
        self.used = 0.0
        self.threads = threads
        self.waiting, self.lanes, self.running = waiting, lanes, 0
        self.served = 0
        cores.join(self)

    @property
    def can_serve(self) -> bool:
        return self.waiting > 0 and self.running < self.lanes

    @property
    def has_work(self) -> bool:
        return self.waiting + self.running > 0

    def serve_one(self) -> None:
        self.waiting -= 1
        self.running += 1
        self.served += 1


class Machine:
    """Plays batches out, the one that began first ending first."""

    def __init__(self, cores: int) -> None:
        self.cores = SharedCores(cores)
        self.most = 0

    def run(self, *sharers: Sharer, seconds: dict[Sharer, float], batches: int) -> Counter[Sharer]:
        """Who was served how often until `batches` have ended."""
        before = {sharer: sharer.served for sharer in sharers}
        now, ends = 0.0, []  # type: tuple[float, list[tuple[float, int, Sharer]]]
        begun = dict.fromkeys(sharers, 0)
        self.cores.serve()
        for number in range(batches):
            for place, sharer in enumerate(sharers):
                while begun[sharer] < sharer.running:
                    begun[sharer] += 1
                    ends.append((now + seconds[sharer], place, sharer))
            self.most = max(self.most, sum(sharer.running * sharer.threads for sharer in sharers))
            ends.sort(key=lambda end: end[:2])
            if not ends:
                break
            now, _, sharer = ends.pop(0)
            sharer.running -= 1
            begun[sharer] -= 1
            self.cores.give_back(sharer, seconds[sharer])
            assert number < batches
        return Counter({sharer: sharer.served - before[sharer] for sharer in sharers})


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_models_have_the_same_share_of_the_cores_however_long_their_batches_take(cores: int) -> None:
    machine = Machine(cores)
    quick, slow = Sharer(machine.cores, 10_000), Sharer(machine.cores, 10_000)
    served = machine.run(quick, slow, seconds={quick: 0.01, slow: 0.1}, batches=1100)
    assert served[quick] * 0.01 == pytest.approx(served[slow] * 0.1, rel=0.05)
    assert machine.most == cores


def test_a_batch_counts_with_its_threads() -> None:
    machine = Machine(2)
    narrow, broad = Sharer(machine.cores, 10_000), Sharer(machine.cores, 10_000, threads=2)
    served = machine.run(narrow, broad, seconds={narrow: 0.1, broad: 0.1}, batches=300)
    assert served[narrow] == pytest.approx(2 * served[broad], rel=0.1)
    assert machine.most <= 2


def test_no_more_run_than_there_are_cores() -> None:
    machine = Machine(3)
    sharers = [Sharer(machine.cores, 50) for _ in range(4)]
    machine.run(*sharers, seconds=dict.fromkeys(sharers, 0.1), batches=1000)
    assert machine.most == 3
    assert not any(sharer.has_work for sharer in sharers)


def test_a_batch_that_needs_more_cores_than_there_are_runs_alone() -> None:
    machine = Machine(2)
    broad, narrow = Sharer(machine.cores, 3, threads=4), Sharer(machine.cores, 3)
    machine.cores.serve()
    assert (broad.running, narrow.running) == (1, 0)
    broad.running -= 1
    machine.cores.give_back(broad, 1.0)
    assert (broad.running, narrow.running) == (0, 2)


def test_who_was_idle_has_saved_nothing_up() -> None:
    machine = Machine(1)
    busy, idle = Sharer(machine.cores, 10_000), Sharer(machine.cores, 0)
    machine.run(busy, seconds={busy: 0.1}, batches=500)
    busy.running = 0
    machine.cores.give_back(busy, 0.1)
    busy.running = 1
    idle.waiting = 10_000
    served = machine.run(busy, idle, seconds={busy: 0.1, idle: 0.1}, batches=100)
    assert served[busy] == pytest.approx(served[idle], abs=3)


def test_alone_a_model_has_all_cores() -> None:
    cores = SharedCores(4)
    alone = Sharer(cores, 10)
    cores.serve()
    assert alone.running == 4


def test_nobody_is_served_beyond_its_lanes() -> None:
    cores = SharedCores(4)
    alone = Sharer(cores, 10, lanes=2)
    cores.serve()
    assert alone.running == 2


def test_how_many_want_the_cores() -> None:
    cores = SharedCores(1)
    first, second, third = Sharer(cores, 1), Sharer(cores, 1), Sharer(cores, 0)
    assert [cores.wanted_by(sharer) for sharer in (first, second, third)] == [2, 2, 3]
    cores.leave(second)
    assert [cores.wanted_by(sharer) for sharer in (first, third)] == [1, 2]
