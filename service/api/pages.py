"""The page at `/`: its files, and what it shows of the service."""

from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.api.schemas import ModelReference, PageModel, PageStatus
from service.api.static_files import WholeFiles
from service.errors import NotReady
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
    request.app.state.api_keys.check(request.headers)
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
        models=[PageModel.model_validate(classifier.manifest) for classifier in replica.models.classifiers],
        images_per_second=images_per_second,
        images_per_second_per_core=images_per_second / replica.cores,
        cores=replica.cores,
    )


@router.api_route("/page/{file}", methods=["GET", "HEAD"])
async def page_file(request: Request, file: str) -> Response:
    """A script, style sheet or icon of the page."""
    return await _file(file, request)


async def _file(name: str, request: Request) -> Response:
    response = await _FILES.get_response(name, request.scope)
    response.headers.update(_HEADERS)
    return response
