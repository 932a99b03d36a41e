import numpy as np
import pytest

from benchmarks.load.samples import Sample, Samples, quantile_ms


def _sample(intended: float, done: float, code: str = "200", images: int = 1) -> Sample:
    return Sample(intended, intended, done, code, images)


def test_latency_counts_from_when_it_should_have_been_sent() -> None:
    late = Sample(intended=1.0, sent=1.75, done=2.0, code="200", images=1)
    assert late.latency == 1.0
    assert list(Samples([late]).lags()) == [0.75]


def test_windows_hold_their_start_and_not_their_end() -> None:
    samples = Samples([_sample(0, 1), _sample(1, 2), _sample(2, 3)])
    assert [sample.intended for sample in samples.intended_in(1, 2).all] == [1]
    assert [sample.done for sample in samples.done_in(2, 3).all] == [2]
    assert len(samples.recent(2)) == 2


def test_what_went_wrong_is_counted_and_has_no_latency() -> None:
    samples = Samples([_sample(0, 1), _sample(0, 0.1, "429"), _sample(0, 9, "timeout"), _sample(0, 0.2, images=8)])
    assert samples.codes() == {"200": 2, "429": 1, "timeout": 1}
    assert list(samples.latencies()) == [1, 0.2]
    assert list(samples.latencies("429")) == [0.1]
    assert samples.images() == 9
    assert samples.images(within=0.5) == 8
    assert samples.missed(limit=0.5) == 3


@pytest.mark.parametrize(("percent", "enough"), [(50, 2), (90, 10), (95, 20), (99, 100), (99.9, 1000)])
def test_a_quantile_needs_an_observation_beyond_it(percent: float, enough: int) -> None:
    assert quantile_ms(np.ones(enough), percent) == 1000
    assert quantile_ms(np.ones(enough - 1), percent) is None


def test_quantiles_of_a_known_distribution() -> None:
    seconds = np.arange(1001) / 1000
    assert [quantile_ms(seconds, percent) for percent in (50, 90, 99)] == pytest.approx([500, 900, 990])
