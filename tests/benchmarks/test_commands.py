"""What the commands of `mixer-bench` take."""

import argparse

import pytest

from benchmarks.commands import _parser

NUMBERS = {"threads", "rounds", "seconds", "count", "batch_size", "batch_sizes", "connections", "minutes", "repeats"}


def commands() -> dict[str, argparse.ArgumentParser]:
    (subparsers,) = (action for action in _parser()._actions if isinstance(action.choices, dict))
    return dict(subparsers.choices)


FLAGS = [
    (command, action.option_strings[0])
    for command, parser in commands().items()
    for action in parser._actions
    if action.dest in NUMBERS
]


@pytest.mark.parametrize(("command", "flag"), FLAGS)
def test_nothing_is_measured_no_times(command: str, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        _parser().parse_args([command, flag, "0"])
    assert exit_.value.code == 2
    assert f"argument {flag}: 0 is not more than 0" in capsys.readouterr().err


def test_every_command_that_measures_has_one() -> None:
    assert {command for command, _ in FLAGS} == commands().keys() - {"plan"}
