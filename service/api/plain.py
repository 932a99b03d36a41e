"""A request to /v1/classify that is here, and is one image as it is: most are, and they need no task."""

from collections.abc import Callable
from functools import partial

from fastapi.responses import Response
from starlette.types import Scope

from service.api.api_keys import ApiKeys
from service.api.door import Visit
from service.api.mistaken import refuse_mistakes
from service.api.v1 import answer_one, asked_of
from service.models.classifier import Classifier, Submitted
from service.models.registry import LoadedModels

_PARSED = (b"multipart/form-data", b"application/json")

Answered = Callable[[Response | Exception], None]


def is_plain(scope: Scope) -> bool:
    """Whether the body of a request to /v1/classify is an image as it is."""
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-encoding":
            return False
        if name == b"content-type" and not media_type:
            media_type = value.partition(b";")[0].strip().lower()
    return media_type not in _PARSED


def classify_plain(models: LoadedModels, api_keys: ApiKeys, scope: Scope, image: bytes, answered: Answered) -> None:
    """As `v1.classify`, for a body that is here; `answered` is told the answer or the error, at once or later."""
    visit = None
    try:
        classifier, asked = asked_of(scope, models, api_keys)
        visit = Visit(scope, classifier, asked.deadline_seconds, asked.priority).begin()
        visit.take(image)
        refuse_mistakes(image)
        submitted = classifier.submit(image, asked.top_k, visit.ticket)
    except Exception as error:
        if visit:
            visit.end(error)
        answered(error)
    else:
        submitted.outcome.add_done_callback(partial(_conclude, scope, classifier, visit, submitted, answered))


def _conclude(
    scope: Scope, classifier: Classifier, visit: Visit, submitted: Submitted, answered: Answered, _: object
) -> None:
    answer: Response | Exception
    try:
        result = classifier.conclude(submitted)
        answer = answer_one(scope, classifier, result)
    except Exception as error:
        visit.end(error)
        answer = error
    else:
        visit.answered(result)
    answered(answer)
