"""A request to /v1/classify that is here, and is one image as it is: most are, and they need no task."""

from collections.abc import Callable
from functools import partial

from fastapi.responses import Response
from starlette.types import Scope

from service.api.api_keys import ApiKeys
from service.api.body import FORM, JSON, media_type
from service.api.door import Visit
from service.api.mistaken import refuse_mistakes
from service.api.v1 import answer_one, asked_of
from service.models.classifier import Classifier, Submitted
from service.models.registry import LoadedModels

Answered = Callable[[Response | Exception], None]


def is_plain(scope: Scope, size: int, max_body_bytes: int) -> bool:
    """Whether a body of `size` bytes for /v1/classify is an image as it is.

    What is not is parsed, inflated or, for its size, refused by `read_images`.
    """
    if not 0 < size <= max_body_bytes or any(name == b"content-encoding" for name, _ in scope["headers"]):
        return False
    return media_type(scope) not in (FORM, JSON)


def classify_plain(models: LoadedModels, api_keys: ApiKeys, scope: Scope, image: bytes, answered: Answered) -> None:
    """As `v1.classify`, for a body that is here; `answered` is told the answer or the error, at once or later."""
    visit = None
    try:
        classifier, asked = asked_of(scope, models, api_keys)
        visit = Visit(scope, classifier, asked.deadline_seconds, asked.priority, image).begin()
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
