from benchmarks.load.images import read_images
from benchmarks.load.overhead import measure


def test_the_service_around_an_engine_that_does_nothing_is_measured() -> None:
    (row,) = measure(read_images("digits"), connections=[2], seconds=0.5).tables["rows"]
    assert row["connections"] == 2
    for figure in ("img/s", "front", "lanes", "longest hold of the event loop, ms"):
        value = row[figure]
        assert isinstance(value, float)
        assert value > 0
