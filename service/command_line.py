"""The command line of `mixer-serve`: a flag for every setting, help about each, errors in the words that were typed."""

import re
import sys
import textwrap
from argparse import SUPPRESS, ArgumentParser, BooleanOptionalAction, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from service import __version__
from service.settings import Settings, errors_of, variable

GROUPS = {
    "models": ("model_repository", "models", "model", "cache"),
    "network": (
        *("host", "port", "metrics_port", "grpc_port", "root_path", "cors_origins"),
        *("keep_alive_seconds", "min_upload_bytes_per_second"),
    ),
    "engine and cores": ("engine", "providers", "lanes", "threads", "max_batch_size", "max_queue_delay_ms"),
    "what is let in": (
        *("max_body_bytes", "max_pixels", "max_inflight_images", "max_inflight_bytes"),
        *("deadline_ms", "latency_target_ms"),
    ),
    "keys": ("api_keys_file", "admin_keys_file"),
    "logs and traces": ("log_format", "log_level", "log_requests", "tracing", "debug"),
    "shutdown": ("drain_seconds",),
}
_ALIASES = {"model_repository": ("--repository",)}
_DESCRIPTION = """\
Serve MLP-Mixer image classifiers over HTTP.

Every flag is an environment variable too, which is named behind it; the flag wins.
"""
_EPILOG = """\
examples:
  MIXER_LOG_FORMAT=text mixer-serve --model-repository ./models --models digits --port 8001
  mixer-serve --model mixer_b16.safetensors
  curl --data-binary @image.png http://localhost:8001/v1/classify
"""
_TYPES = {bool: "yes or no", int: "a whole number", float: "a number", str: "text", Path: "a path", list: "a list"}


@dataclass(frozen=True)
class CommandLine:
    """The settings, and the flags of those that were given as flags."""

    settings: Settings
    typed: dict[str, str]

    def named(self, message: str) -> str:
        """`message` with the flag in place of the variable, MIXER_PORT, of every setting that was given as a flag."""
        return _named(message, self.typed)


def read_command_line(arguments: Sequence[str] | None = None) -> CommandLine:
    """The settings from `arguments` (by default the process's) and the environment; exits with 2 if they are unusable.

    `--help` and `--version` are answered here, with an exit of 0.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    given, unknown = _parser().parse_known_args(arguments)
    if unknown:
        _refuse([_no_flag(unknown[0])])
    values: dict[str, Any] = {
        name: ",".join(value) if isinstance(value, list) else value for name, value in vars(given).items()
    }
    words = {word.partition("=")[0] for word in arguments}
    typed = {name: next((flag for flag in _flags(name) if flag in words), _flag(name)) for name in values}
    try:
        return CommandLine(Settings(**values), typed)
    except ValidationError as error:
        _refuse([_named(told, typed) for told in errors_of(error)])


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        message = message.replace("ignored explicit argument", "takes no value, and has")
        _refuse([f"{message.removeprefix('argument ')}; --help lists the flags"])


class _HelpFormatter(RawDescriptionHelpFormatter):
    def _split_lines(self, text: str, width: int) -> list[str]:
        """Wrap what a flag does, and on lines of their own its variable, type and default."""
        return [line for part in text.splitlines() for line in textwrap.wrap(part, width, break_on_hyphens=False)]


def _parser() -> ArgumentParser:
    parser = _Parser(
        prog="mixer-serve",
        usage="mixer-serve [FLAG ...]",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=_HelpFormatter,
        argument_default=SUPPRESS,
        allow_abbrev=False,  # an abbreviation would change its meaning with the next flag
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="show this and exit")
    parser.add_argument(
        "--version", action="version", version=f"mixer-serve {__version__}", help="show the version and exit"
    )
    for title, names in GROUPS.items():
        group = parser.add_argument_group(title)
        for name in names:
            field = Settings.model_fields[name]
            options: dict[str, Any] = {"metavar": name.partition("_per_")[0].rpartition("_")[2].upper()}
            if field.annotation is bool:
                options = {"action": BooleanOptionalAction}
            elif get_origin(field.annotation) is list:
                options["action"] = "append"
            group.add_argument(*_flags(name), dest=name, help=_help(name, field), **options)
    return parser


def _help(name: str, field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        told = "yes" if default else "no"
    elif isinstance(default, list):
        told = ",".join(default) or "empty"
    elif name.endswith("bytes"):
        told = f"{default}, which is {default >> 20} MiB"
    else:
        told = {None: "none", "": "empty"}.get(default) or str(default)
    return f"{field.description}\n{variable(name)}: {_type(field.annotation)}; default: {told}".replace("%", "%%")


def _type(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(get_args(annotation))
    kind = get_origin(annotation) or annotation
    return _TYPES[kind] if kind in _TYPES else _TYPES[get_args(annotation)[0]]  # the latter: or None


def _named(message: str, typed: dict[str, str]) -> str:
    return re.sub(r"\bMIXER_([A-Z_]+)", lambda match: typed.get(match[1].lower(), match[0]), message)


def _no_flag(word: str) -> str:
    name = word.partition("=")[0]
    similar = get_close_matches(name, [_flag(known) for known in Settings.model_fields], n=1)
    return f"{name} is no flag" + (f"; did you mean {similar[0]}?" if similar else "; --help lists the flags")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flags(name: str) -> tuple[str, ...]:
    """Every flag of a setting."""
    return (_flag(name), *_ALIASES.get(name, ()))


def _refuse(messages: list[str]) -> NoReturn:
    print("\n".join(f"mixer-serve: {message}" for message in messages), file=sys.stderr)
    sys.exit(2)
