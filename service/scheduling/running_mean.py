"""A running mean that one odd value cannot move far."""

_WEIGHT = 0.1  # of the newest value
_OUTLIER = 4.0  # times the mean: what a larger value counts as, since one odd one must not close the door


class RunningMean:
    """Starts at `value` and follows what it is given, between `least` and `most`; nothing up to `ordinary` is odd."""

    def __init__(self, value: float, *, least: float, most: float = float("inf"), ordinary: float = 0.0) -> None:
        self.value = value
        self._least = least
        self._most = most
        self._ordinary = max(least, ordinary)

    def take(self, newest: float) -> None:
        """One more value."""
        newest = min(newest, _OUTLIER * max(self.value, self._ordinary))
        self.value = min(self._most, max(self._least, self.value + _WEIGHT * (newest - self.value)))
