"""The API's description at `/docs`, with its script and style served from here: a reader without a network sees it, and
nobody else learns of them.
"""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response

from service.api.static_files import WholeFiles

router = APIRouter(include_in_schema=False)

_SWAGGER_UI = WholeFiles(directory=Path(str(files("fastapi_swagger.resources"))))


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """What describes every route to programs, as it was written out once: that takes the event loop milliseconds."""
    return Response(request.app.state.description(), media_type="application/json")


@router.get("/docs")
async def docs() -> Response:
    """Swagger UI; every address is relative, so that it works behind any prefix."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Mixer serving",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
    )


@router.get("/docs/{file}")
async def docs_file(request: Request, file: str) -> Response:
    """A script, style sheet or icon of Swagger UI."""
    return await _SWAGGER_UI.get_response(file, request.scope)
