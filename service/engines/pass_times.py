"""How long a pass takes, by batch size: the curve measured at start, corrected by the passes that follow."""

from bisect import bisect_left

PassSeconds = dict[int, float]  # batch size: seconds of a pass

_GOOD_ENOUGH = 0.97  # of the best rate: beyond it, larger batches only make their images wait
_WEIGHT = 0.1  # of the newest pass in the running mean of actual / measured at start
_LEAST, _MOST = 0.5, 20.0  # of that mean
_OUTLIER = 4.0  # times the mean: what a pass beyond it counts as, since one odd pass must not close the door


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


class PassTimes:
    """Predicts pass times from the curve times a running correction."""

    def __init__(self, curve: PassSeconds) -> None:
        self._sizes = sorted(curve)
        self._curve = curve
        self.correction = 1.0

    def seconds(self, size: int) -> float:
        """Predicted wall time of a pass over `size` images: linear between measured sizes, proportional beyond them."""
        return self.correction * self._measured(size)

    def at_best(self, size: int) -> float:
        """As measured at start, or better."""
        return min(1.0, self.correction) * self._measured(size)

    def learn(self, size: int, seconds: float) -> None:
        """Take a finished pass into account."""
        ratio = min(seconds / self._measured(size), _OUTLIER * self.correction)
        self.correction = min(_MOST, max(_LEAST, self.correction + _WEIGHT * (ratio - self.correction)))

    def _measured(self, size: int) -> float:
        above = bisect_left(self._sizes, size)
        if above == len(self._sizes):
            return self._curve[self._sizes[-1]] * size / self._sizes[-1]
        upper = self._sizes[above]
        if above == 0 or upper == size:
            return self._curve[upper]
        lower = self._sizes[above - 1]
        share = (size - lower) / (upper - lower)
        return self._curve[lower] + share * (self._curve[upper] - self._curve[lower])
