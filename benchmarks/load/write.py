"""A result as files: JSON of the schema, Markdown for people, pictures."""

from pathlib import Path

from benchmarks.load.compare import ratio_rows
from benchmarks.load.result import LoadResult
from benchmarks.load.table import generator_rows, server_rows, speed_rows
from benchmarks.report import Result, Row, write_files

NOTES = """\
Figures are medians of the valid repeats, the spread is (max - min) / median. "img/s" counts good answers by when they
came, "good img/s" those within the objective. Latencies are of good answers, from when a query should have been sent:
in an open loop ("/s") that is when it arrived by chance (Poisson), whatever became of others. "not 200" counts queries
by what they got instead. A run is invalid if the generator, and not the server, made its figures: if its lateness at
p99 is over 2 ms and over a tenth of the p99 latency (in a closed loop, if half of its timers are late by over a tenth
of the median latency), if it sent less than 99 % in time, took more than 85 % of its core or could open no more
connections. "img per CPU-second" and PSS (proportional set size: what processes share counts once) are of all the
server's processes, without the generator's; the front is our service's process with HTTP. The engine alone and the GEMM
peak are what was measured at the service's start, and matrix products just before the load."""


def write_result(out: Path, name: str, result: LoadResult) -> Path:
    """Write <out>/<name>.json, .md and .png; returns the second."""
    # The pictures' library takes a second to load, and none of it belongs beside a generator at work.
    from benchmarks.load.plots import draw  # noqa: PLC0415

    tables = {
        "rows": speed_rows(result.runs),
        "ratios": ratio_rows(result.runs),
        "the same answers": _answer_rows(result),
        "what the server spent": server_rows(result.runs),
        "memory": _memory_rows(result),
        "the generator": generator_rows(result.runs),
        "found": _found_rows(result),
    }
    environment = result.environment | {
        f"{target} serves": {
            **served.model,
            **{f"service's {name}": it for name, it in served.build.items()},
            "lanes x threads": f"{served.lanes} x {served.lane_threads}",
        }
        for target, served in result.served.items()
    }
    if result.gemm_peak_gflops:
        peaks = {precision: f"{round(gflops)} GFLOP/s" for precision, gflops in result.gemm_peak_gflops.items()}
        environment["GEMM peak"] = peaks
    report = Result(tables, NOTES, draw(result.runs))
    content = result.model_dump_json(indent=2)
    return write_files(out, name, result.command, result.date, environment, report, content)


def _answer_rows(result: LoadResult) -> list[Row]:
    return [
        {
            "target": target,
            "images": found.images,
            "same top-1": found.same_top1,
            "largest difference of a probability": found.largest_difference and round(found.largest_difference, 6),
        }
        for target, found in result.answers.items()
    ]


def _memory_rows(result: LoadResult) -> list[Row]:
    return [
        {
            "target": run.target,
            "second": round(sample.second),
            "MiB": sample.bytes and round(sample.bytes / 2**20, 1),
            "open connections": sample.connections,
        }
        for run in result.runs
        for sample in run.server.memory
    ]


def _found_rows(result: LoadResult) -> list[Row]:
    return [
        {"target": target, "what": what, "value": round(value, 1) if isinstance(value, float) else value}
        for target, findings in result.findings.items()
        for what, value in findings.items()
    ]
