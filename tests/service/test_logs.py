import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from service.logs import QueuedHandler, TextFormatter

ROOT = Path(__file__).parent.parent.parent
CONFIGURED = (
    "import logging, os, sys, warnings; from service.host import open_standard_streams; "
    "from service.logs import configure_logging; "
)


class Pipe:
    """A logger whose lines go into a pipe."""

    def __init__(self) -> None:
        reader, self.writer = os.pipe()
        self.reader = os.fdopen(reader)
        self.dropped = 0
        self.handler = QueuedHandler(self.writer, self._drop)
        self.handler.setFormatter(logging.Formatter("%(message)s"))
        self.log = logging.Logger("mixer")
        self.log.addHandler(self.handler)

    def _drop(self) -> None:
        self.dropped += 1

    def read(self, lines: int) -> list[str]:
        return [self.reader.readline().removesuffix("\n") for _ in range(lines)]

    def close(self) -> None:
        self.reader.close()  # which ends a write that nobody would have read
        self.handler.flush()
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with closing(Pipe()) as pipe:
        yield pipe


def test_lines_are_written_whole_and_in_order(pipe: Pipe) -> None:
    """Some are longer than a pipe holds."""
    expected = [f"{number} " + "x" * (100_000 if number % 100 == 0 else 10) for number in range(1000)]
    for line in expected:
        pipe.log.info(line)
    assert (pipe.read(1000), pipe.dropped) == (expected, 0)


def test_nobody_waits_for_a_reader_who_does_not_read_and_what_does_not_fit_is_counted(pipe: Pipe) -> None:
    for number in range(100_000):
        pipe.log.info("%099d", number)
    pipe.handler.flush()  # in vain, and bounded all the same
    assert 0 < pipe.dropped < 100_000
    kept = [int(line) for line in pipe.read(100_000 - pipe.dropped)]
    assert kept[0] == 0
    assert kept == sorted(set(kept))
    pipe.log.info("there is room again")
    assert pipe.read(1) == ["there is room again"]


def test_a_reader_who_is_gone_costs_the_lines_and_nothing_else(pipe: Pipe) -> None:
    pipe.reader.close()
    for _ in range(3):
        pipe.log.info("to nobody")
        pipe.handler.flush()
    assert pipe.dropped == 3


def test_a_pipe_that_somebody_made_non_blocking_gets_every_line(pipe: Pipe) -> None:
    os.set_blocking(pipe.writer, False)
    for number in range(10_000):
        pipe.log.info("%099d", number)
    assert [int(line) for line in pipe.read(10_000)] == list(range(10_000))


def test_a_record_that_cannot_be_formatted_is_told_and_hurts_nobody(pipe: Pipe) -> None:
    pipe.log.info("%d images", "no number")
    pipe.log.info("the next")
    assert pipe.read(2) == ["a log line could not be made", "Traceback (most recent call last):"]
    assert "the next" in iter(lambda: pipe.read(1)[0], "")


def test_text_has_the_fields(pipe: Pipe) -> None:
    pipe.handler.setFormatter(TextFormatter())
    extra = {
        "request_id": "7f",
        "timing_ms": {"decode": 0.5, "infer": 2},
        "reason": 'not an "image"',
        "empty": "",
        "forged": "a\n2026 ERROR",
        "models": ["digits/1"],
        "deadline": None,
        "lost": True,
    }
    pipe.log.info("POST /v1/classify 200", extra=extra)
    pipe.log.info("end")
    line, last = pipe.read(2)
    assert line.endswith(
        " INFO mixer POST /v1/classify 200 request_id=7f timing_ms.decode=0.5 timing_ms.infer=2 "
        'reason="not an \\"image\\"" empty="" forged="a\\n2026 ERROR" models=["digits/1"] deadline=null lost=true'
    )
    assert last.endswith(" INFO mixer end")


def test_fields_come_before_the_stack_of_an_exception(pipe: Pipe) -> None:
    pipe.handler.setFormatter(TextFormatter())
    try:
        raise ValueError("broken")
    except ValueError:
        pipe.log.exception("a pass failed", extra={"model": "digits"})
    first, second = pipe.read(2)
    assert first.endswith(" ERROR mixer a pass failed model=digits")
    assert second == "Traceback (most recent call last):"


def logged(program: str) -> list[dict[str, object]]:
    """What a process of its own logs, since logging is configured for a whole one."""
    result = subprocess.run(
        [sys.executable, "-c", CONFIGURED + program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in result.stderr.splitlines()]


def test_json_has_level_name_message_time_and_fields() -> None:
    (line,) = logged("configure_logging('json'); logging.getLogger('service.x').info('%s', 'a\\nb', extra={'n': 1})")
    assert line.pop("timestamp")
    assert line == {"level": "INFO", "name": "service.x", "message": "a\nb", "n": 1}


@pytest.mark.parametrize(
    ("level", "ours", "theirs"),
    [("debug", "DIWE", "IWE"), ("info", "IWE", "IWE"), ("warning", "WE", "WE"), ("error", "E", "E")],
)
def test_the_level_is_ours_and_libraries_have_at_least_info(level: str, ours: str, theirs: str) -> None:
    lines = logged(f"""configure_logging("json", "{level}")
for name in ("service.edge", "asyncio", "uvicorn"):
    for at in ("debug", "info", "warning", "error"): getattr(logging.getLogger(name), at)(at)
""")
    initials = dict.fromkeys(("service.edge", "asyncio", "uvicorn"), "")
    for line in lines:
        initials[str(line["name"])] += str(line["level"])[0]
    assert initials == {"service.edge": ours, "asyncio": theirs, "uvicorn": theirs.removeprefix("I")}


def test_warnings_are_lines_too() -> None:
    (line,) = logged("configure_logging('json'); warnings.warn('soon gone')")
    assert (line["level"], line["name"]) == ("WARNING", "py.warnings")
    assert "soon gone" in str(line["message"])


def test_what_is_logged_last_is_written_before_the_process_ends() -> None:
    lines = logged("configure_logging('json'); [logging.error(n) for n in range(2000)]")
    assert [line["message"] for line in lines] == list(map(str, range(2000)))
    lines = logged("lines = configure_logging('json'); logging.error('last'); lines.flush(); os._exit(0)")
    assert [line["message"] for line in lines] == ["last"]


@contextmanager
def unread(program: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", CONFIGURED + program], cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_ends_although_nobody_reads_what_it_logs() -> None:
    with unread("configure_logging('json'); [logging.error('x' * 99) for _ in range(99_999)]") as process:
        assert process.wait(timeout=60) == 0


def test_a_process_without_standard_error_logs_to_nowhere() -> None:
    program = "open_standard_streams(); configure_logging('json'); logging.error('x'); print('served')"
    command = ["bash", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, CONFIGURED + program]
    assert subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout == "served\n"
