"""How long a pass takes, by batch size, as it was measured, and what follows from that."""

PassSeconds = dict[int, float]  # batch size: seconds of a pass

_GOOD_ENOUGH = 0.95  # of the best rate: beyond it, larger batches only make their images wait
# Seconds that a batch costs besides its pass, on cores that are busy: to be gathered, sent, stacked and answered.
_EACH_BATCH = 0.001


def batch_sizes_up_to(largest: int) -> list[int]:
    """Powers of two, and `largest` itself."""
    return sorted({2**power for power in range(largest.bit_length())} | {largest})


def best_batch_size(curve: PassSeconds) -> int:
    """The smallest batch size whose rate is within 5 % of the best, with what every batch costs besides its pass."""
    rates = {size: size / (seconds + _EACH_BATCH) for size, seconds in curve.items()}
    return min(size for size, rate in rates.items() if rate >= _GOOD_ENOUGH * max(rates.values()))


def best_rate(curve: PassSeconds) -> float:
    """Images per second at the best batch size."""
    return max(size / seconds for size, seconds in curve.items())
