"""The page at `/`: its files, and what it shows of the service."""

import asyncio
from pathlib import Path
from string import digits

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.schemas import ModelReference, PageModel, PageStatus
from service.api.static_files import WholeFiles
from service.errors import NotReady, UnknownRoute
from service.models.classifier import Classifier
from service.models.replica import Replica

router = APIRouter(include_in_schema=False)

_FILES = WholeFiles(directory=Path(__file__).parent.parent / "page")
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked about by ETag: an upgrade shows at once
    # Nothing but the page's own files; blob: are the images that it previews.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


@router.api_route("/", methods=["GET", "HEAD"])
async def page(request: Request) -> Response:
    """The page."""
    return await _file("index.html", request)


@router.get("/page/status")
async def status(request: Request) -> PageStatus:
    """What is served and how fast, for whoever may use it."""
    replica: Replica = request.app.state.replica
    request.app.state.api_keys.check(request.scope)
    try:
        replica.check_ready()
        ready = True
    except NotReady:
        ready = False
    default = replica.models.find(None, None).manifest
    images_per_second = replica.metrics.images_per_second_of_all()
    return PageStatus(
        ready=ready,
        default=ModelReference(name=default.name, version=default.version),
        models=[_page_model(classifier) for classifier in replica.models.classifiers],
        images_per_second=images_per_second,
        images_per_second_per_core=images_per_second / replica.cores,
        cores=replica.cores,
    )


@router.get("/page/samples/{model}/{version}/{number}")
async def sample(request: Request, model: str, version: str, number: str) -> Response:
    """One of a model's golden images, for whoever may use it."""
    replica: Replica = request.app.state.replica
    request.app.state.api_keys.check(request.scope)
    samples = replica.models.find(model, version).samples
    if not (number.isdecimal() and number.isascii() and len(number) < 4 and int(number) < len(samples)):
        raise UnknownRoute("the model has no such sample")
    try:
        data = await asyncio.to_thread(samples[int(number)].read_bytes)
    except OSError:
        raise UnknownRoute("the sample is no longer there") from None
    return Response(data, media_type="application/octet-stream")


@router.api_route("/page/{file}", methods=["GET", "HEAD"])
async def page_file(request: Request, file: str) -> Response:
    """A script, style sheet or icon of the page."""
    return await _file(file, request)


def _page_model(classifier: Classifier) -> PageModel:
    return PageModel(
        name=classifier.manifest.name,
        version=classifier.manifest.version,
        digits=sorted(classifier.labels or ()) == list(digits),
        samples=len(classifier.samples),
        capacity_images_per_second=classifier.images_per_second,
    )


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
