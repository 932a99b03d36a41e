import pytest

from service.scheduling.order import BatchLimits, ServingOrder
from service.scheduling.ticket import Priority, Ticket

FULL = 0.1  # seconds of a full batch of four


def one_by_one(size: int) -> float:
    """A pass of 10 ms an image."""
    return 0.01 * size


def suspect(decode_seconds: float = 0.0) -> Ticket:
    return Ticket(10, decode_seconds=decode_seconds, suspect=True)


def order(*tickets: Ticket, now: float = 0.0) -> list[Ticket]:
    return ServingOrder(tickets, now, each=FULL / 4, batch=FULL).tickets


def ticket(deadline: float, priority: Priority = "interactive", promised_by: float | None = None) -> Ticket:
    return Ticket(deadline, priority, promised_by=deadline if promised_by is None else promised_by)


@pytest.mark.parametrize(
    ("decode_seconds", "size", "seconds"),
    [
        ([0], 1, 0.01),
        ([0, 0, 0], 3, 0.03),
        ([0] * 9, 4, 0.04),  # images bound it
        ([0.02] * 4, 3, 0.09),  # 120 ms would be too long
        ([0.015] * 4, 4, 0.1),  # exactly as long as may be
        ([0.015, 0.015, 0.015, 0.016], 3, 0.075),
        ([5, 0, 0], 1, 5.01),  # one at least
        ([0, 0.026, 0], 1, 0.01),  # one that takes long holds up nobody before it
        ([0.026, 0, 0], 3, 0.056),
    ],
)
def test_a_batch_is_bounded_in_images_and_in_seconds(decode_seconds: list[float], size: int, seconds: float) -> None:
    found, taken = BatchLimits(4, 0.1).batch_size(decode_seconds, 0, 0, one_by_one)
    assert (found, taken) == (size, pytest.approx(seconds))


@pytest.mark.parametrize(
    ("images", "sizes"),
    [(9, [8, 1]), (15, [8, 7]), (16, [16]), (19, [16, 3]), (20 + 13, [20, 8, 5]), (8, [8]), (7, [7])],
)
def test_a_batch_beyond_eight_is_a_multiple_of_eight_or_full(images: int, sizes: list[int]) -> None:
    limits, found, start = BatchLimits(20, 10), list[int](), 0
    while start < images:
        size, seconds = limits.batch_size([0.01] * images, start, 0, one_by_one)
        assert seconds == pytest.approx(0.02 * size)
        found.append(size)
        start += size
    assert found == sizes


def test_a_batch_begins_where_the_one_before_it_ended() -> None:
    decoding = [0, 0, 0, 0, 0.05, 0.02, 0.02]
    assert BatchLimits(4, 0.1).batch_size(decoding, 4, 0, one_by_one)[0] == 2
    assert BatchLimits(4, 0.1).batch_size(decoding, 6, 0, one_by_one)[0] == 1


def test_a_suspect_is_alone() -> None:
    sizes = [BatchLimits(4, 1).batch_size([0.1, 0, 0, 0], start, 2, one_by_one) for start in range(3)]
    assert sizes == [(1, pytest.approx(0.11)), (1, 0.01), (2, 0.02)]


def test_interactive_goes_by_when_it_is_to_be_served() -> None:
    late, soon, sooner = ticket(5), ticket(3), ticket(2)
    assert order(late, soon, sooner) == [sooner, soon, late]


def test_bulk_waits_while_it_can() -> None:
    bulk, interactive = ticket(1, "bulk"), ticket(5)
    assert order(bulk, interactive) == [interactive, bulk]


def test_bulk_that_would_be_late_goes_by_its_time_too() -> None:
    """Four batches of 100 ms and 50 ms more are what it has in hand."""
    bulk, interactive = ticket(10, "bulk"), ticket(12)
    assert order(bulk, interactive, now=9.5) == [interactive, bulk]
    assert order(bulk, interactive, now=9.6) == [bulk, interactive]


def test_of_much_bulk_the_last_has_to_begin_earlier() -> None:
    bulk = [ticket(10 + place / 1000, "bulk") for place in range(40)]
    interactive = ticket(20)
    assert order(interactive, *bulk, now=8.5)[0] is interactive
    assert order(interactive, *bulk, now=8.8)[0].priority == "bulk"  # ten batches and four more take 1.4 s
    assert order(interactive, *bulk[:4], now=8.8)[0] is interactive


def test_who_has_a_deadline_goes_before_whom_something_is_merely_promised() -> None:
    hard, promised = ticket(2.2), ticket(10, promised_by=2)
    assert order(promised, hard) == [hard, promised]
    later = ticket(2.3)  # than two full batches and 50 ms after the promise
    assert order(promised, later) == [promised, later]


def test_suspects_go_first() -> None:
    """They wait for a lane of their own, and somebody waits for them since before the lane was lost."""
    sooner, tried = ticket(1), suspect()
    assert order(sooner, tried) == [tried, sooner]


def test_nobody_is_lost_or_invented() -> None:
    tickets = [ticket(1 + place % 3, "bulk" if place % 2 else "interactive") for place in range(20)]
    assert sorted(map(id, order(*tickets))) == sorted(map(id, tickets))
    assert order() == []
