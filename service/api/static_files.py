"""Files that are served as they are: those of the page and of the API's description."""

from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope


class WholeFiles(StaticFiles):
    """Starlette's, but whoever asks for a part of a file gets all of it, as a server may (RFC 9110, section 14.2).

    Starlette's refusals of a Range are plain text, and none of these files is large.
    """

    async def get_response(self, path: str, scope: Scope) -> Response:
        """The answer for one file; raises HTTPException if there is none."""
        scope["headers"] = [header for header in scope["headers"] if header[0] != b"range"]
        response = await super().get_response(path, scope)
        response.headers["accept-ranges"] = "none"
        return response
