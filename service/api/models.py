"""`GET /v1/models`: what is loaded, of everything that a client chooses by."""

from fastapi import APIRouter, Request

from service.api.openapi import answers
from service.api.schemas import LoadedModel, LoadedModelsResponse
from service.arrays import FEATURES
from service.errors import Unauthorized
from service.models.replica import Replica

router = APIRouter()

_ANSWERS = answers(Unauthorized("an accepted API key is needed in X-Api-Key or Authorization: Bearer"))


@router.get("/v1/models", tags=["Classification"], responses=_ANSWERS)
async def models(request: Request) -> LoadedModelsResponse:
    """Every version of every model that is loaded; the first is the default."""
    replica: Replica = request.app.state.replica
    request.app.state.api_keys.check(request.scope)
    return LoadedModelsResponse(
        models=[
            LoadedModel(
                name=classifier.manifest.name,
                version=classifier.manifest.version,
                default=place == 0,
                state="READY" if classifier.lanes.ready else "UNAVAILABLE",
                variant=classifier.manifest.variant,
                image_size=classifier.manifest.image_size,
                classes=classifier.manifest.classes,
                features=classifier.manifest.outputs.get(FEATURES),
                precision=classifier.manifest.precision,
                engine=classifier.loaded.description,
            )
            for place, classifier in enumerate(replica.models.classifiers)
        ]
    )
