from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, export_repository


def test_the_defaults_serve_the_embedded_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert (settings.port, settings.metrics_port) == (8000, 9000)
    assert (settings.model_repository / "digits" / "1" / "manifest.json").is_file()


def test_a_folder_called_models_is_the_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    assert Settings().model_repository == tmp_path / "models"
    monkeypatch.setenv("MIXER_MODEL_REPOSITORY", "/srv")
    assert Settings().model_repository == Path("/srv")


@pytest.mark.parametrize("setting", ["models", "providers", "cors_origins"])
def test_a_list_of_nothing_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas that were left over: `MODELS=,` does not mean all."""
    monkeypatch.setenv(f"MIXER_{setting.upper()}", ",")
    with pytest.raises(ValidationError, match="',' names nothing"):
        Settings()
    monkeypatch.setenv("MIXER_MODELS", "")
    monkeypatch.setenv(f"MIXER_{setting.upper()}", "a://b, c://d")
    assert getattr(Settings(), setting) == ["a://b", "c://d"]


def test_words_are_taken_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("MIXER_LOG_REQUESTS", "Off")
    assert (Settings().log_level, Settings().log_requests) == ("warning", "off")


def test_settings_cannot_change() -> None:
    with pytest.raises(ValidationError):
        Settings().port = 1


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"port": 9000}, "MIXER_METRICS_PORT"),
        ({"grpc_port": 8000}, "MIXER_PORT and MIXER_GRPC_PORT are both 8000"),
        ({"grpc_port": 9000}, "MIXER_METRICS_PORT and MIXER_GRPC_PORT"),
        ({"grpc_port": -1}, "grpc_port"),
        ({"providers": ""}, "MIXER_PROVIDERS"),
        ({"max_batch_size": 64, "max_inflight_images": 32}, "MIXER_MAX_INFLIGHT_IMAGES"),
        ({"port": 70_000}, "port"),
        ({"deadline_ms": 0}, "deadline_ms"),
        ({"log_format": "xml"}, "log_format"),
        ({"log_level": "loud"}, "log_level"),
        ({"log_requests": "some"}, "log_requests"),
        ({"lanes": -1}, "lanes"),
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


@pytest.mark.parametrize("told", ["/srv/models", None])
def test_bundles_are_written_where_the_service_reads(
    told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if told:
        monkeypatch.setenv("MIXER_MODEL_REPOSITORY", told)
    (tmp_path / "models").mkdir()
    assert export_repository().absolute() == Settings().model_repository.absolute()
