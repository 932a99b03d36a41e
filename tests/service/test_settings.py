from pathlib import Path

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp

from service.settings import Settings


def test_the_defaults_serve_the_embedded_bundle() -> None:
    settings = Settings()
    assert (settings.port, settings.metrics_port) == (8000, 9000)
    assert (settings.model_repository / "digits" / "1" / "manifest.json").is_file()


def test_environment_and_flag_mean_the_same_and_the_flag_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_MAX_BATCH_SIZE", "4")
    monkeypatch.setenv("MIXER_MODELS", "digits, other/2")
    assert Settings().max_batch_size == 4
    assert Settings().models == ["digits", "other/2"]
    settings = CliApp.run(Settings, cli_args=["--max-batch-size", "8", "--model-repository", "/srv", "--models", "a,b"])
    assert (settings.max_batch_size, settings.model_repository, settings.models) == (8, Path("/srv"), ["a", "b"])


@pytest.mark.parametrize("setting", ["models", "providers", "cors_origins"])
def test_a_list_of_nothing_is_refused(setting: str) -> None:
    """Commas that were left over: `MODELS=,` does not mean all."""
    with pytest.raises(ValidationError, match="',' names nothing"):
        CliApp.run(Settings, cli_args=[f"--{setting.replace('_', '-')}=,"])
    assert CliApp.run(Settings, cli_args=["--models="]).models == []


def test_settings_cannot_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"port": 9000}, "MIXER_METRICS_PORT"),
        ({"providers": ""}, "MIXER_PROVIDERS"),
        ({"max_batch_size": 64, "max_inflight_images": 32}, "MIXER_MAX_INFLIGHT_IMAGES"),
        ({"port": 70_000}, "port"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"log_format": "xml"}, "log_format"),
        ({"cors_origins": "https://example.org/"}, "cors_origins"),  # would never match
        ({"cors_origins": "*, example.org"}, "cors_origins"),
        ({"api_keys_file": ""}, "api_keys_file"),
    ],
)
def test_bad_values_and_combinations_are_refused_by_name(values: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings(**values)


def test_tracing_without_opentelemetry_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings(tracing=True).tracing
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert not Settings().tracing
    with pytest.raises(ValidationError, match=r"pip install 'mixer-serving\[otel\]'"):
        Settings(tracing=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("MIXER_PROT", "MIXER_PROT is no setting; did you mean MIXER_PORT\\?"),
        ("MIXER_METRIC_PORT", "MIXER_METRIC_PORT is no setting; did you mean MIXER_METRICS_PORT\\?"),
        ("MIXER_XYZZY", "MIXER_XYZZY is no setting "),
    ],
)
def test_a_variable_that_is_no_setting_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, told: str) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ValidationError, match=told):
        Settings()


def test_what_kubernetes_says_about_services_is_not_for_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services called mixer, mixer-metrics and mixer-b16, in a pod with service links."""
    for service, port in (("MIXER", 8000), ("MIXER_METRICS", 9001), ("MIXER_B16", 80)):
        monkeypatch.setenv(f"{service}_SERVICE_HOST", "10.0.0.1")
        monkeypatch.setenv(f"{service}_SERVICE_PORT", str(port))
        monkeypatch.setenv(f"{service}_SERVICE_PORT_HTTP", str(port))
        monkeypatch.setenv(f"{service}_PORT", f"tcp://10.0.0.1:{port}")
        monkeypatch.setenv(f"{service}_PORT_{port}_TCP", f"tcp://10.0.0.1:{port}")
        monkeypatch.setenv(f"{service}_PORT_{port}_TCP_PROTO", "tcp")
        monkeypatch.setenv(f"{service}_PORT_{port}_TCP_PORT", str(port))
        monkeypatch.setenv(f"{service}_PORT_{port}_TCP_ADDR", "10.0.0.1")
    assert (Settings().port, Settings().metrics_port) == (8000, 9000)
