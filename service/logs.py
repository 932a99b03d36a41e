"""Log lines: JSON for machines or text for people, all to standard error."""

import logging
from logging import Formatter

from pythonjsonlogger.json import JsonFormatter


def configure_logging(log_format: str) -> None:
    """Send every logger's INFO and above to standard error as `log_format` ("json" or "text")."""
    # What no line shows need not be found out for each (logging's own HOWTO, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler()
    if log_format == "json":
        formatter: Formatter = JsonFormatter(
            "{levelname}{name}{message}", style="{", timestamp=True, rename_fields={"levelname": "level"}
        )
    else:
        formatter = Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its start and stop are told in our own words
    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # a client's broken form is answered, not warned of
