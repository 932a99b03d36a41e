"""How long decoding and passes take: as measured at start, corrected by every batch that follows."""

import math
from bisect import bisect_left

from service.engines.curve import PassSeconds
from service.images.announced import Announced
from service.scheduling.running_mean import RunningMean


class PassTimes:
    """Forecasts passes from the curve times a running correction."""

    def __init__(self, curve: PassSeconds) -> None:
        self._sizes = sorted(curve)
        self._curve = curve
        self._correction = RunningMean(1.0, least=0.1, most=20.0)
        self._seconds: dict[int, float] = {}  # as forecast until the next pass is learnt from

    @property
    def correction(self) -> float:
        """What passes lately took, of what they took when they were measured."""
        return self._correction.value

    def seconds(self, size: int) -> float:
        """Forecast wall time of a pass over `size` images: linear between measured sizes, proportional beyond them."""
        seconds = self._seconds.get(size)
        if seconds is None:
            seconds = self._seconds[size] = self.correction * self._measured(size)
        return seconds

    def at_best(self, size: int) -> float:
        """As measured at start, or better."""
        return min(1.0, self.correction) * self._measured(size)

    def learn(self, size: int, seconds: float) -> None:
        """Take a finished pass into account."""
        self._correction.take(seconds / self._measured(size))
        self._seconds.clear()

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


# Nanoseconds a pixel, by what decoding took on a Zen 4 core; each format's correction makes them this machine's.
_PIXEL = {"JPEG": 8.0, "PNG": 30.0, "GIF": 12.0, "BMP": 4.0, "WEBP": 25.0, "TIFF": 20.0, "AVIF": 40.0, "HEIC": 40.0}
_OTHER = 20.0
_MOST_WRONG = 1000.0  # times
_EACH = 0.0001  # seconds that the smallest image takes
_PIXELS_PER_BYTE = 8.0  # where the size is not told
LONG = 0.1  # seconds of decoding; of what takes less, the forecast may be wrong
_SHORT = 0.01  # seconds; a pause of the machine is no sign that a forecast of less was wrong by so many times
_FORGIVING = 0.98  # for each image that a forecast was right about, of what is remembered of a wrong one
_ORDINARY = 640 * 360  # pixels of the JPEG that decoding is measured on at start


class DecodeTimes:
    """Forecasts decoding on one core, preprocessing included, from an image's format and pixels."""

    def __init__(self, ordinary_seconds: float, max_pixels: float = math.inf) -> None:
        """`ordinary_seconds` is what the JPEG of the start took; beyond `max_pixels` nothing is decoded."""
        self.ordinary = ordinary_seconds
        self._max_pixels = max_pixels
        self._machine = ordinary_seconds / _nominal(Announced("JPEG", _ORDINARY), 0)
        self._corrections: dict[str, RunningMean] = {}
        self._usual = RunningMean(ordinary_seconds, least=1e-6)
        # By format: times the forecast, of an image that took long, and the pixels of those that may be like it.
        self._worst: dict[str, tuple[float, float]] = {}

    @property
    def usual(self) -> float:
        """Seconds that images lately took: the forecast for one of which nothing is known yet."""
        return self._usual.value

    def by_size(self, size: float) -> float:
        """Forecast for an image of `size` bytes of which nothing else is known: of the format that takes most."""
        return max(self.seconds(Announced(format_, 0), size) for format_ in _PIXEL)

    def seconds(self, image: Announced, size: float) -> float:
        """Forecast for an image of `size` bytes."""
        if image.pixels > self._max_pixels:  # it is refused
            return self._machine * _EACH
        correction = self._corrections.get(image.format)
        return (correction.value if correction else self._machine) * _nominal(image, size)

    def longest(self, image: Announced, size: int) -> float:
        """Seconds that it takes if the forecast is as wrong as of one of its format, not far larger, that took long.

        It is infinite for an image that does not tell its size, or tells one that no decoder would take.
        """
        if image.format != "other" and not 0 < image.pixels <= self._max_pixels:
            return math.inf
        wrong, pixels = self._worst.get(image.format, (1.0, 0.0))
        return (wrong if image.pixels >= pixels else 1.0) * self.seconds(image, size)

    def learn(self, image: Announced, size: int, seconds: float, *, usual: bool = True) -> None:
        """Take a decoded image into account; in what is `usual` too, unless it is one of those that have a lane."""
        self.learn_longest(image, size, seconds)
        self._correction(image.format).take(seconds / _nominal(image, size))
        if usual:
            self._usual.take(seconds)

    def learn_longest(self, image: Announced, size: int, seconds: float) -> None:
        """Remember that decoding took so long, or was ended then, if that was far from the forecast."""
        worst, pixels = self._worst.get(image.format, (1.0, 0.0))
        wrong = min(_MOST_WRONG, seconds / max(_SHORT, self.seconds(image, size))) if seconds > LONG else 1.0
        if wrong >= _FORGIVING * worst:
            self._worst[image.format] = max(1.0, wrong), image.pixels / 4
        else:
            self._worst[image.format] = max(1.0, _FORGIVING * worst), pixels

    def _correction(self, format_: str) -> RunningMean:
        correction = self._corrections.get(format_)
        if correction is None:
            correction = self._corrections[format_] = RunningMean(self._machine, least=0.01, most=100.0)
        return correction


def _nominal(image: Announced, size: float) -> float:
    pixels = image.pixels or _PIXELS_PER_BYTE * size
    return _EACH + pixels * _PIXEL.get(image.format, _OTHER) * 1e-9
