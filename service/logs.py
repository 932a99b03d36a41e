"""Log lines, JSON for machines or text for people; a thread writes them to standard error, so that nobody waits."""

import json
import logging
import os
import select
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from logging import Formatter, LogRecord
from queue import SimpleQueue

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

_MOST_WAITING = 4 * 2**20  # bytes of lines that wait to be written: some seconds of a line for every request
_FLUSH_SECONDS = 1.0


class QueuedHandler(logging.Handler):
    """Lines go into a queue, which a thread empties into a file descriptor.

    Whoever logs never waits for the reader at the other end. A line that does not fit is dropped, and `count_dropped`
    is called for it.
    """

    def __init__(self, descriptor: int, count_dropped: Callable[[], None]) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._count_dropped = count_dropped
        # A SimpleQueue may be put into from a signal handler that interrupted another put.
        self._waiting: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._bytes_put = self._bytes_taken = 0  # each written by one thread at a time: see logging.Handler.handle
        threading.Thread(target=self._write_lines, name="log", daemon=True).start()

    def emit(self, record: LogRecord) -> None:
        """Queue the record's line, or drop it; never blocks and never raises."""
        try:
            line = self.format(record)
        except Exception:
            line = self.format(_unformatted(record))
        encoded = line.encode(errors="backslashreplace") + b"\n"
        if self._bytes_put - self._bytes_taken + len(encoded) > _MOST_WAITING:
            self._count_dropped()
            return
        self._bytes_put += len(encoded)
        self._waiting.put(encoded)

    def flush(self) -> None:
        """Wait until what is queued by now is written, at most a second: the reader may never read again."""
        written = threading.Event()
        self._waiting.put(written)
        written.wait(_FLUSH_SECONDS)

    def _write_lines(self) -> None:
        while True:
            line = self._waiting.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            try:
                _write(self._descriptor, line)
            except OSError:  # the reader is gone, or the disk is full
                self._count_dropped()
            self._bytes_taken += len(line)


class TextFormatter(Formatter):
    """`TIME LEVEL LOGGER MESSAGE key=value ...`; fields are what `extra` has, nested ones as `outer.inner=value`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: LogRecord) -> str:  # noqa: N802, D102 - logging's name
        line = super().formatMessage(record)
        fields = {name: value for name, value in vars(record).items() if name not in RESERVED_ATTRS}
        return " ".join([line, *_fields("", fields)])


def configure_logging(
    log_format: str, level: str = "info", count_dropped: Callable[[], None] = lambda: None
) -> QueuedHandler:
    """Send log lines to standard error as `log_format` ("json" or "text"), from now on without blocking whoever logs.

    `level` is the least that our own loggers write; libraries never write less than INFO. The handler that is returned
    is flushed as the interpreter exits; who ends the process otherwise (os._exit) flushes it first.
    """
    # What no line shows need not be found out for each (logging's own HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # Not sys.stderr: a write that blocks would hold its lock, and the interpreter aborts where it cannot get that.
    handler = QueuedHandler(sys.stderr.fileno(), count_dropped)
    if log_format == "json":
        handler.setFormatter(
            JsonFormatter("{levelname}{name}{message}", style="{", timestamp=True, rename_fields={"levelname": "level"})
        )
    else:
        handler.setFormatter(TextFormatter())
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.INFO), handlers=[handler], force=True)
    logging.getLogger("service").setLevel(least)
    logging.captureWarnings(True)  # which would be written to standard error otherwise
    logging.getLogger("uvicorn").setLevel(max(least, logging.WARNING))  # its start and stop are told in our own words
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a client's broken form is answered, not warned of
    return handler


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it, for as long as that takes; raises OSError where it cannot be."""
    rest = memoryview(data)
    while rest:
        with suppress(BlockingIOError):  # whoever started this process may have made its end non-blocking
            rest = rest[os.write(descriptor, rest) :]
            continue
        select.select([], [descriptor], [])


def _fields(prefix: str, fields: dict[str, object]) -> list[str]:
    told: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            told += _fields(f"{prefix}{name}.", value)
        else:
            told.append(f"{prefix}{name}={_value(value)}")
    return told


def _value(value: object) -> str:
    """Text as it is if it is one word, else as a JSON string: fields stay apart, and one record stays one line."""
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    plain = text and text.isprintable() and not set(text) & set(' "=')
    return text if plain or not isinstance(value, str) else json.dumps(text)


def _unformatted(record: LogRecord) -> LogRecord:
    """In place of a record whose message and arguments do not fit."""
    told = {"name": record.name, "levelno": logging.ERROR, "levelname": "ERROR", "exc_info": sys.exc_info()}
    return logging.makeLogRecord(told | {"msg": "a log line could not be made"})
