import re
from pathlib import Path

import pytest

from service import __version__
from service.command_line import GROUPS, read_command_line
from service.settings import Settings


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    with pytest.raises(SystemExit) as exit_:
        read_command_line(arguments)
    assert exit_.value.code == 2
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def shown(capsys: pytest.CaptureFixture[str], flag: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        read_command_line([flag])
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_variable_and_flag_mean_the_same_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_MAX_BATCH_SIZE", "4")
    monkeypatch.setenv("MIXER_MODELS", "digits, other/2")
    assert read_command_line([]).settings.max_batch_size == 4
    assert read_command_line([]).settings.models == ["digits", "other/2"]
    flags = ["--max-batch-size", "8", "--model-repository", "/srv", "--models", "a,b"]
    settings = read_command_line(flags).settings
    assert (settings.max_batch_size, settings.model_repository, settings.models) == (8, Path("/srv"), ["a", "b"])


def test_every_setting_has_a_flag_in_one_group() -> None:
    grouped = [name for names in GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(Settings.model_fields)


def test_a_flag_may_be_repeated_where_it_takes_a_list() -> None:
    settings = read_command_line(["--models", "a", "--models=b/2,c"]).settings
    assert settings.models == ["a", "b/2", "c"]
    assert read_command_line(["--models="]).settings.models == []


def test_the_repository_has_the_name_that_the_export_gives_it() -> None:
    assert read_command_line(["--repository", "/srv"]).settings.model_repository == Path("/srv")


def test_a_boolean_takes_no_value(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_command_line(["--debug"]).settings.debug
    monkeypatch.setenv("MIXER_DEBUG", "true")
    assert not read_command_line(["--no-debug"]).settings.debug
    assert refused(capsys, "--debug", "true") == ["mixer-serve: true is no flag; --help lists the flags"]
    (line,) = refused(capsys, "--debug=true")
    assert line == "mixer-serve: --debug/--no-debug: takes no value, and has 'true'; --help lists the flags"


def test_help_names_every_flag_with_its_variable_type_and_default(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "500")
    text = shown(capsys, "--help")
    for name in Settings.model_fields:
        (line,) = (line for line in text.splitlines() if line.strip().startswith(f"MIXER_{name.upper()}: "))
        assert "; default: " in line
        assert f"  --{name.replace('_', '-')}" in text
    assert "MIXER_PORT: a whole number; default: 8000\n" in text
    assert "MIXER_MODELS: a list; default: empty\n" in text
    assert "MIXER_API_KEYS_FILE: a path; default: none\n" in text
    assert "MIXER_LOG_FORMAT: one of json, text; default: json\n" in text
    assert "MIXER_DEBUG: yes or no; default: no\n" in text
    assert "MIXER_MAX_BODY_BYTES: a whole number; default: 16777216, which is 16 MiB\n" in text
    assert "--min-upload-bytes-per-second BYTES" in text
    assert not re.findall(r"\b(list\[|str\b|int\b|float\b|bool\b|NoneType|Path\b|PydanticUndefined)", text)
    assert [line for line in text.splitlines() if line.startswith("  MIXER_")], "there is an example"


def test_the_examples_in_the_help_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line for line in shown(capsys, "--help").splitlines() if " mixer-serve --" in line]
    assert len(lines) == 2
    for line in lines:
        read_command_line(line.partition("mixer-serve ")[2].split())


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "--version") == f"mixer-serve {__version__}\n"


@pytest.mark.parametrize(
    ("variables", "flags", "told"),
    [
        ({}, ["--port", "x"], "--port x: should be a valid integer, unable to parse string as an integer"),
        ({"PORT": "x"}, [], "MIXER_PORT x: should be a valid integer, unable to parse string as an integer"),
        ({"PORT": "x"}, ["--port", "-1"], "--port -1: should be greater than or equal to 0"),
        ({}, ["--log-format=xml"], "--log-format xml: should be 'json' or 'text'"),
        ({"DEBUG": "maybe"}, [], "MIXER_DEBUG maybe: should be a valid boolean, unable to interpret input"),
        ({}, ["--models", ","], "--models: ',' names nothing"),
        ({}, ["--api-keys-file="], "--api-keys-file: it is empty: give a path, or leave the setting out"),
        ({}, ["--repository="], "--repository: it is empty: give a path, or leave the setting out"),
        ({}, ["--port="], "--port '': should be a valid integer, unable to parse string as an integer"),
        ({}, ["--port", "9000"], "--port and MIXER_METRICS_PORT are both 9000"),
        ({"METRICS_PORT": "7"}, ["--port", "7"], "--port and MIXER_METRICS_PORT are both 7"),
        ({"PORT": "7"}, ["--metrics-port", "7"], "MIXER_PORT and --metrics-port are both 7"),
        (
            {"MAX_BATCH_SIZE": "64"},
            ["--max-inflight-images", "32"],
            "--max-inflight-images 32 is below MIXER_MAX_BATCH_SIZE 64: full batches could never form",
        ),
        ({}, ["--prot", "1"], "--prot is no flag; did you mean --port?"),
        ({}, ["--metric-port=1"], "--metric-port is no flag; did you mean --metrics-port?"),
        ({}, ["--xyzzy", "1"], "--xyzzy is no flag; --help lists the flags"),
        ({}, ["digits"], "digits is no flag; --help lists the flags"),
        ({}, ["--port"], "--port: expected one argument; --help lists the flags"),
        ({"PROT": "1"}, [], "MIXER_PROT is no setting; did you mean MIXER_PORT?"),
    ],
)
def test_an_error_names_what_was_typed(
    variables: dict[str, str],
    flags: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"MIXER_{name}", value)
    assert refused(capsys, *flags) == [f"mixer-serve: {told}"]


def test_every_error_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    lines = refused(capsys, "--port", "x", "--deadline-ms", "0")
    assert [line.split()[1] for line in lines] == ["--port", "--deadline-ms"]


def test_what_fails_later_is_named_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_HOST", "127.0.0.1")
    command_line = read_command_line(["--port", "80"])
    assert command_line.named("MIXER_PORT 80: Permission denied") == "--port 80: Permission denied"
    assert command_line.named("MIXER_HOST and MIXER_METRICS_PORT") == "MIXER_HOST and MIXER_METRICS_PORT"
