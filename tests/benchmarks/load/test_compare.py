import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.load import measure
from benchmarks.load.answers import check_answers, compare_answers, read_classes
from benchmarks.load.compare import ratio_rows
from benchmarks.load.result import Run, read_result
from benchmarks.load.session import Options, Session
from benchmarks.load.target import Address, Target, parse_target
from tests.benchmarks.load.fake_server import fake_server
from tests.benchmarks.load.runs import make_run
from tests.e2e.processes import add_digits


def a_run(target: str, rate: float, *, p50: float = 10, clients: int = 8, invalid: bool = False) -> Run:
    return make_run(
        target=target,
        clients=clients,
        images_per_second=rate,
        good_images_per_second=rate / 2,
        p50=p50,
        p99=None,
        server={"images_per_cpu_second": rate},
        invalid=["the generator was late"] if invalid else [],
    )


def test_a_ratio_is_the_first_targets_figure_over_the_others_as_the_median_of_the_repeats() -> None:
    ours = [a_run("ours", rate, p50=5) for rate in (100, 200, 300)]
    theirs = [a_run("theirs", rate, p50=20) for rate in (100, 50, 100)]
    (row,) = ratio_rows(ours + theirs)
    assert (row[""], row["scenario"], row["load"]) == ("ours / theirs", "offline", "8 clients")
    assert (row["img/s"], row["good img/s"], row["p50"], row["img per CPU-second"]) == (3, 3, 0.25, 3)
    assert (row["p99"], row["peak memory"]) == (None, None)


def test_every_other_target_has_a_row_for_each_load_that_the_first_had_too() -> None:
    runs = [a_run("ours", 100), a_run("a", 50), a_run("b", 25), a_run("b", 1, clients=64)]
    assert [(row[""], row["img/s"]) for row in ratio_rows(runs)] == [("ours / a", 2), ("ours / b", 4)]
    assert ratio_rows(runs[:1]) == []


def test_ours_on_another_engine_stands_beside_the_others_too() -> None:
    runs = [a_run("mixer", 400), a_run("mixer-onnxruntime", 200), a_run("mosec", 100), a_run("plain", 50)]
    assert [(row[""], row["img/s"]) for row in ratio_rows(runs)] == [
        ("mixer / mixer-onnxruntime", 2),
        ("mixer / mosec", 4),
        ("mixer / plain", 8),
        ("mixer-onnxruntime / mosec", 2),
        ("mixer-onnxruntime / plain", 4),
    ]


def test_an_invalid_run_is_in_no_ratio() -> None:
    ours = [a_run("ours", 100), a_run("ours", 100)]
    assert ratio_rows([*ours, a_run("theirs", 50), a_run("theirs", 1, invalid=True)])[0]["img/s"] == 2
    assert ratio_rows([ours[0], a_run("theirs", 1, invalid=True)])[0]["img/s"] is None


@pytest.mark.anyio
async def test_the_slower_of_two_servers_has_the_ratio_against_it() -> None:
    async with fake_server() as fast, fake_server() as slow:
        fast.seconds, slow.seconds = 0.02, 0.04
        options = Options([b"image"], seconds=0.5, warmup=0, quiet=True)
        runs = [
            await Session(Target(name, server.url, "raw"), options).closed("offline", 0, clients=2)
            for name, server in (("fast", fast), ("slow", slow))
        ]
    (row,) = ratio_rows(runs)
    rates, latencies = row["img/s"], row["p50"]
    assert isinstance(rates, float)
    assert isinstance(latencies, float)
    assert rates > 1 > latencies


@pytest.mark.parametrize(
    "answer",
    [
        {"predictions": [{"index": 7, "label": "7", "probability": 0.75}, {"index": 1, "probability": 0.25}]},
        [{"predictions": [{"index": 7, "probability": 0.75}, {"index": 1, "probability": 0.25}]}],
        {"outputs": [{"name": "index", "data": [7, 1]}, {"name": "probability", "data": [0.75, 0.25]}]},
        {"outputs": [{"name": "index", "data": [[7, 1]]}, {"name": "probability", "data": [[0.75, 0.25]]}]},
    ],
)
def test_an_answer_names_its_classes_in_any_of_the_targets_forms(answer: object) -> None:
    assert read_classes(json.dumps(answer).encode()) == {7: 0.75, 1: 0.25}


def test_an_answer_may_have_the_probabilities_of_all_classes() -> None:
    outputs = [{"name": "logits", "data": [9, 9, 9]}, {"name": "probabilities", "data": [[0.25, 0.75, 0]]}]
    assert read_classes(json.dumps({"outputs": outputs}).encode()) == {0: 0.25, 1: 0.75, 2: 0}


@pytest.mark.parametrize("answer", ["", "{}", "7", "null", "[]", "[1, 2]", '{"outputs": 3}', '{"predictions": [{}]}'])
def test_an_answer_of_another_form_is_refused(answer: str) -> None:
    with pytest.raises(ValueError, match="unknown form"):
        read_classes(answer.encode())


def predicting(**probabilities: float) -> bytes:
    best = [{"index": int(name[1:]), "probability": it} for name, it in probabilities.items()]
    return json.dumps({"predictions": best}).encode()


def test_two_targets_agree_on_the_images_whose_best_class_is_the_same() -> None:
    first = [predicting(c7=0.75, c1=0.25), predicting(c3=1)]
    assert compare_answers(first, first).model_dump() == {"images": 2, "same_top1": 2, "largest_difference": 0}
    other = [predicting(c7=0.625, c1=0.375), predicting(c4=0.9)]
    assert compare_answers(first, other).model_dump() == {"images": 2, "same_top1": 1, "largest_difference": 1}
    assert compare_answers(first, [b"{}", b"{}"]).model_dump() == {
        "images": 2,
        "same_top1": None,
        "largest_difference": None,
    }
    assert compare_answers([predicting()], [predicting()]).same_top1 is None


@pytest.mark.anyio
async def test_targets_that_do_other_work_are_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    async with fake_server() as a, fake_server() as b, fake_server() as c:
        a.answer, b.answer = predicting(c7=1).decode(), predicting(c1=1).decode()
        options = Options([b"image"], quiet=True)
        sessions = [
            Session(Target(name, server.url, "raw"), options)
            for name, server in (("a", a), ("b", b), ("c", c), ("a too", a))
        ]
        found = check_answers({session.target.name: await session.check() for session in sessions})
    assert {name: it.same_top1 for name, it in found.items()} == {"b": 0, "c": None, "a too": 1}
    assert capsys.readouterr().err.splitlines() == [
        "WARNING: a and b see the same in 0 of 1 images only",
        "WARNING: a or c answers in an unknown form",
    ]


def test_a_target_is_a_preset_with_or_without_an_address() -> None:
    assert parse_target("plain") == ("plain", None)
    assert parse_target("mosec=http://h:1,42") == ("mosec", Address("http://h:1", None, 42))
    both = Address("http://h:1", "http://h:9000/metrics", 42)
    assert parse_target("mixer=http://h:1,http://h:9000/metrics,42") == ("mixer", both)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--target", "nonsense=http://127.0.0.1:1"], "target 'nonsense' is not one of"),
        (["--target", "triton"], "target triton needs a URL"),
        (["--bundle", "models/digits"], "models/digits is not a bundle"),
    ],
)
def test_what_cannot_be_compared_is_said_before_anything_starts(
    flags: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["benchmarks", "compare", *flags])
    with pytest.raises(SystemExit, match=message):
        main()


def test_our_service_and_the_plain_server_are_started_and_see_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "_gemm_peak_gflops", dict)
    bundle = add_digits(tmp_path / "repository", version="3", name="figures")
    line = "compare offline --clients 2 --seconds 0.3 --warmup 0 --repeats 2 --quiet --note litserve=0.2.19"
    targets = [
        part for name in ("mixer", "plain", "mixer-onnxruntime", "mixer-v2", "mixer") for part in ("--target", name)
    ]
    monkeypatch.setattr(
        "sys.argv", ["benchmarks", *line.split(), *targets, "--bundle", str(bundle), "--out", str(tmp_path)]
    )
    main()
    result = read_result(tmp_path / "compare.json")
    assert [(run.target, run.repeat) for run in result.runs] == [
        (target, repeat)
        for target in ("mixer", "plain", "mixer-onnxruntime", "mixer-v2", "mixer 2")
        for repeat in (0, 1)
    ]
    assert all(run.codes.keys() == {"200"} for run in result.runs)
    served = {name: (it.model["model"], it.model["version"]) for name, it in result.served.items()}
    assert served == dict.fromkeys(("mixer", "mixer-onnxruntime", "mixer-v2", "mixer 2"), ("figures", "3"))
    assert result.served["mixer-onnxruntime"].model["engine"].startswith("onnxruntime")
    assert {name: (it.images, it.same_top1) for name, it in result.answers.items()} == {
        "plain": (10, 10),
        "mixer-onnxruntime": (10, 10),
        "mixer-v2": (10, 10),
        "mixer 2": (10, 10),
    }
    assert all((it.largest_difference or 0) < 0.01 for it in result.answers.values())
    assert result.environment["notes"] == {"litserve": "0.2.19"}
    assert "| mixer / plain | offline | 2 clients |" in (tmp_path / "compare.md").read_text()
