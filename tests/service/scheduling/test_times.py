import math

import pytest

from service.images.announced import Announced
from service.scheduling.times import DecodeTimes, PassTimes

PHOTO = Announced("JPEG", 640 * 360)


def test_between_measured_sizes_the_curve_is_straight_and_beyond_it_proportional() -> None:
    times = PassTimes({1: 0.01, 2: 0.016, 4: 0.02})
    assert [times.seconds(size) for size in (1, 2, 3, 4, 8)] == pytest.approx([0.01, 0.016, 0.018, 0.02, 0.04])


def test_passes_that_take_longer_move_the_forecast() -> None:
    times = PassTimes({1: 0.01, 4: 0.02})
    for _ in range(100):
        times.learn(4, 0.04)
    assert times.seconds(1) == pytest.approx(0.02, rel=0.01)
    assert times.seconds(4) == pytest.approx(0.04, rel=0.01)


def test_one_odd_pass_does_not_close_the_door() -> None:
    times = PassTimes({1: 0.01})
    times.learn(1, 1000)
    assert times.seconds(1) <= 0.2


def test_at_best_a_pass_takes_what_it_took_at_start_or_less() -> None:
    times = PassTimes({1: 0.01})
    for _ in range(100):
        times.learn(1, 0.02)
    assert times.at_best(1) == pytest.approx(0.01)
    for _ in range(100):
        times.learn(1, 0.008)
    assert times.at_best(1) == pytest.approx(0.008, rel=0.01)


def test_a_photograph_like_that_of_the_start_takes_what_that_did() -> None:
    times = DecodeTimes(0.003)
    assert times.seconds(PHOTO, 30_000) == pytest.approx(0.003)
    assert (times.ordinary, times.usual) == (0.003, 0.003)


def test_decoding_goes_by_format_and_pixels() -> None:
    times = DecodeTimes(0.003)
    assert times.seconds(Announced("JPEG", 64 * 36), 300) < 0.001
    assert times.seconds(Announced("JPEG", 1280 * 720), 100_000) == pytest.approx(4 * 0.003, rel=0.2)
    assert times.seconds(Announced("PNG", 1280 * 720), 100_000) > times.seconds(Announced("JPEG", 1280 * 720), 100_000)
    assert times.seconds(Announced("BMP", 640 * 360), 700_000) < times.seconds(PHOTO, 30_000)


@pytest.mark.parametrize("format_", ["JPEG", "TIFF", "AVIF", "other"])
def test_where_no_size_is_told_the_bytes_say_something(format_: str) -> None:
    times = DecodeTimes(0.003)
    small, large = (times.seconds(Announced(format_, 0), size) for size in (1000, 1_000_000))
    assert 0 < 10 * small < large


def test_where_only_its_bytes_are_known_an_image_may_be_of_the_format_that_takes_most() -> None:
    times = DecodeTimes(0.003)
    for _ in range(100):
        times.learn(Announced("PNG", 1280 * 720), 100_000, 0.04)
    formats = ("JPEG", "PNG", "AVIF", "other")
    assert times.by_size(4000) >= max(times.seconds(Announced(format_, 0), 4000) for format_ in formats)
    assert times.by_size(4000) < times.by_size(1_000_000) < times.by_size(math.inf) == math.inf


def test_each_formats_forecast_follows_what_its_images_take() -> None:
    times = DecodeTimes(0.003)
    png = Announced("PNG", 640 * 360)
    before, photo = times.seconds(png, 1), times.seconds(PHOTO, 1)
    for _ in range(100):
        times.learn(png, 1, 3 * before)
    assert times.seconds(png, 1) == pytest.approx(3 * before, rel=0.01)
    assert times.seconds(Announced("PNG", 1280 * 720), 1) > 10 * before
    assert times.seconds(PHOTO, 1) == photo
    assert times.usual == pytest.approx(3 * before, rel=0.01)
    assert times.ordinary == 0.003


def test_one_odd_image_does_not_close_the_door() -> None:
    times = DecodeTimes(0.003)
    times.learn(PHOTO, 1, 1000)
    assert times.seconds(PHOTO, 1) < 0.005
    assert times.usual < 0.005


def test_one_image_that_took_far_longer_than_forecast_casts_doubt_on_those_like_it_for_a_while() -> None:
    times = DecodeTimes(0.003)
    webp, smaller = Announced("WEBP", 1_000_000), Announced("WEBP", 240_000)
    usual = times.seconds(webp, 1)
    times.learn_longest(webp, 1, 2.0)
    assert times.longest(webp, 1) == pytest.approx(2.0)
    assert times.seconds(webp, 1) == usual
    assert times.longest(smaller, 1) == times.seconds(smaller, 1)
    assert times.longest(PHOTO, 1) == times.seconds(PHOTO, 1)
    for _ in range(500):
        times.learn(webp, 1, usual)
    assert times.longest(webp, 1) == pytest.approx(usual)


def test_a_pause_of_the_machine_makes_no_tiny_image_a_thousand_times_longer() -> None:
    times = DecodeTimes(0.003)
    tiny = Announced("JPEG", 28 * 28)
    times.learn_longest(tiny, 1, 0.12)
    assert times.longest(tiny, 1) < 0.05


def test_an_image_whose_size_is_not_told_may_take_for_ever() -> None:
    times = DecodeTimes(0.003)
    assert times.longest(Announced("TIFF", 0), 100) == math.inf
    assert times.longest(Announced("other", 0), 100) < 1
    assert DecodeTimes(0.003, max_pixels=100).longest(Announced("AVIF", 101), 100) == math.inf


def test_images_with_a_lane_of_their_own_are_not_the_usual_ones() -> None:
    times = DecodeTimes(0.003)
    for _ in range(100):
        times.learn(PHOTO, 1, 0.03, usual=False)
    assert times.usual == 0.003
    assert times.seconds(PHOTO, 1) == pytest.approx(0.03, rel=0.01)


def test_what_is_refused_undecoded_takes_no_time() -> None:
    times = DecodeTimes(0.003, max_pixels=1_000_000)
    assert times.seconds(Announced("PNG", 2**62), 100) < 0.001
    assert times.seconds(Announced("PNG", 1_000_001), 100) < 0.001
    assert times.seconds(Announced("PNG", 1_000_000), 100) > 0.01
