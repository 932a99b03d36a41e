"""What a Mixer service says of itself, and of the model that answers, before it is loaded."""

import json
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.connection import Connections
from benchmarks.load.result import ServedModel
from benchmarks.load.target import Target


async def read_served(target: Target, answer: bytes) -> ServedModel | None:
    """The model that gave this answer, and its configuration; None of a target without Mixer's metrics.

    Raises OSError if they cannot be had, ValueError if they do not have that model.
    """
    if target.metrics_url is None:
        return None
    samples = [
        sample
        for family in text_string_to_metric_families((await _get(target.metrics_url)).decode())
        for sample in family.samples
    ]
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    models = [sample.labels for sample in samples if sample.name == "mixer_model_info"]
    if not models:
        return None
    model = _answering(target, models, answer)
    server = urlsplit(target.url)
    path = f"/v2/models/{model['model']}/versions/{model['version']}/config"
    config = json.loads(await _get(f"{server.scheme}://{server.netloc}{path}", dict(target.headers)))
    return ServedModel(
        model=model,
        build=next(sample.labels for sample in samples if sample.name == "mixer_build_info"),
        gmacs=config.get("gmacs"),
        pass_seconds=config["pass_seconds"],
        cores=values["mixer_cores"],
        lanes=config["lanes"],
        lane_threads=config["lane_threads"],
    )


def _answering(target: Target, models: list[dict[str, str]], answer: bytes) -> dict[str, str]:
    """The labels of the one that the answer names; if it names none, of the only one."""
    named = _named(answer)
    found = [model for model in models if named.items() <= model.items()]
    if len(found) != 1:
        has = ", ".join(f"{model['model']}/{model['version']}" for model in models)
        who = f"{'/'.join(named.values())} answers" if named else "the answer does not name its model"
        raise ValueError(f"{target.url}: {who}, and {target.metrics_url} has {has}")
    return found[0]


def _named(answer: bytes) -> dict[str, str]:
    """As /v1/classify or the Open Inference Protocol has it."""
    try:
        content = json.loads(answer)
    except ValueError:
        return {}
    match content:
        case {"model": {"name": name, "version": version}} | {"model_name": name, "model_version": version}:
            return {"model": name, "version": version}
    return {}


async def _get(url: str, headers: dict[str, str] | None = None) -> bytes:
    connections = Connections(url)
    try:
        return await connections.get(headers)
    finally:
        connections.close()
