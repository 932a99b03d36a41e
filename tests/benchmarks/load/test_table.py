from benchmarks.load.table import generator_rows, server_rows, speed_rows
from tests.benchmarks.load.runs import make_run


def test_repeats_become_a_median_and_a_spread() -> None:
    runs = [make_run(repeat=i, images_per_second=rate, p50=i) for i, rate in enumerate((90.0, 100.0, 120.0))]
    (row,) = speed_rows(runs)
    assert (row["img/s"], row["spread %"], row["p50 ms"]) == (100.0, 30.0, 1.0)
    assert (row["p99.9 ms"], row["not 200"], row["valid"]) == (None, "none", "yes")


def test_a_quantile_that_some_repeat_lacks_is_left_out() -> None:
    """Or a row's p99 could be that of its quickest repeat, and less than its p90."""
    (row,) = speed_rows([make_run(repeat=0, p50=10.0, p99=20.0), make_run(repeat=1, p50=500.0, p99=None)])
    assert (row["p50 ms"], row["p99 ms"]) == (255.0, None)


def test_loads_have_rows_of_their_own_and_what_only_found_them_has_none() -> None:
    runs = [
        make_run(clients=1), make_run(clients=8), make_run(target="plain"), make_run(images_per_query=8, clients=1),
        make_run(scenario="search", loop="open", offered_images_per_second=10.0),
        make_run(scenario="capacity", clients=64),
    ]  # fmt: skip
    rows = [(row["target"], row["load"]) for row in speed_rows(runs)]
    assert rows == [("mixer", "1 client"), ("mixer", "8 clients"), ("plain", "8 clients"), ("mixer", "1 client of 8")]


def test_rates_that_each_repeat_found_for_itself_are_one_load() -> None:
    runs = [
        make_run(scenario="overload", loop="open", repeat=i, offered_images_per_second=rate)
        for i, rate in enumerate((190.0, 200.0, 230.0))
    ]
    assert [row["load"] for row in speed_rows(runs)] == ["200.0/s"]


def test_what_went_wrong_is_summed_and_invalid_runs_are_named_with_their_reason() -> None:
    runs = [make_run(codes={"200": 5, "429": 2}), make_run(codes={"429": 1, "timeout": 1}, invalid=["it was slow"])]
    (row,) = speed_rows(runs)
    assert row["not 200"] == {"429": 3, "timeout": 1}
    assert row["valid"] == "INVALID (1 of 2)"
    assert generator_rows(runs)[0]["why invalid"] == "it was slow"


def test_columns_that_nobody_has_are_left_out() -> None:
    assert server_rows([make_run()]) == []
    (first, second) = server_rows([make_run(server={"mean_batch": 2.5}), make_run(target="plain")])
    assert (first["mean batch"], second["mean batch"]) == (2.5, None)
    assert first.keys() == {"target", "scenario", "load", "mean batch"}
