"""How long a pass takes, by batch size, as it was measured, and what follows from that."""

PassSeconds = dict[int, float]  # batch size: seconds of a pass

_GOOD_ENOUGH = 0.97  # of the best rate: beyond it, larger batches only make their images wait


def batch_sizes_up_to(largest: int) -> list[int]:
    """Powers of two, and `largest` itself."""
    return sorted({2**power for power in range(largest.bit_length())} | {largest})


def best_batch_size(curve: PassSeconds) -> int:
    """The smallest batch size whose rate is within 3 % of the best."""
    best = best_rate(curve)
    return min(size for size, seconds in curve.items() if size / seconds >= _GOOD_ENOUGH * best)


def best_rate(curve: PassSeconds) -> float:
    """Images per second at the best batch size."""
    return max(size / seconds for size, seconds in curve.items())
