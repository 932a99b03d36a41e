"""What a Mixer service says of itself before it is loaded."""

import json
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.load.connection import Connections
from benchmarks.load.result import ServedModel
from benchmarks.load.target import Target


async def read_served(target: Target) -> ServedModel | None:
    """The model that the metrics name first, and its configuration; None of a target without Mixer's metrics.

    Raises OSError if they cannot be had.
    """
    if target.metrics_url is None:
        return None
    samples = [
        sample
        for family in text_string_to_metric_families((await _get(target.metrics_url)).decode())
        for sample in family.samples
    ]
    values = {sample.name: sample.value for sample in samples if not sample.labels}
    labels = {sample.name: sample.labels for sample in reversed(samples)}
    if not (model := labels.get("mixer_model_info")):
        return None
    server = urlsplit(target.url)
    config = json.loads(await _get(f"{server.scheme}://{server.netloc}/v2/models/{model['model']}/config"))
    return ServedModel(
        model=model,
        build=labels["mixer_build_info"],
        gmacs=config.get("gmacs"),
        pass_seconds=config["pass_seconds"],
        cores=values["mixer_cores"],
        decode_threads=int(values["mixer_decode_threads"]),
        engine_threads=int(values["mixer_engine_threads"]),
    )


async def _get(url: str) -> bytes:
    connections = Connections(url)
    try:
        return await connections.get()
    finally:
        connections.close()
