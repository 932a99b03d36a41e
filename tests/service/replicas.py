"""A replica's application asked without a socket, and what it counted."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

from service.app import create_api, with_edge
from service.models.replica import Replica
from tests.doubles import level_png, started


@asynccontextmanager
async def client_of(replica: Replica) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a replica that serves for the length of the block."""
    async with (
        started(replica),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(with_edge(create_api(replica))), base_url="http://mixer"
        ) as client,
    ):
        yield client


class Upload:
    """A body that tells whether anybody has begun to read it."""

    begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        yield level_png(3)


def outcomes(replica: Replica) -> dict[str, float]:
    """Images by outcome, those that are not zero."""
    return {
        sample.labels["outcome"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_images_total" and sample.value
    }


def rejections(replica: Replica) -> dict[str, float]:
    """Images refused at the door by why, those that are not zero."""
    return {
        sample.labels["reason"]: sample.value
        for metric in replica.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "mixer_rejections_total" and sample.value
    }


def keep_busy(replica: Replica, seconds: float) -> None:
    """Have every lane of the default model forecast to be busy for so long; one that has a batch is."""
    promises = replica.models.classifiers[0].promises
    for lane in replica.models.classifiers[0].lanes._lanes:
        lane.busy_until = promises.now() + seconds
