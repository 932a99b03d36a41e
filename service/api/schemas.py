"""Response bodies of the HTTP API."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Body(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ModelReference(_Body):
    """Which model answered."""

    name: str
    version: str


class PredictionBody(_Body):
    """One class of the answer."""

    index: int
    label: str
    probability: float = Field(ge=0, le=1)


class ImageBody(_Body):
    """The image as it was understood; width and height are those after EXIF orientation."""

    width: int
    height: int
    format: str
    orientation_applied: bool
    stored_as: str = Field(description="what was converted to RGB: rgb, gray, gray16, bilevel, palette, cmyk, ycbcr")
    alpha_flattened: bool = Field(description="transparency was laid on white")
    icc_ignored: bool = Field(description="a colour profile was there, and not applied")


class ClassifyResponse(_Body):
    """Answer for one image: predictions, best first."""

    model: ModelReference
    predictions: list[PredictionBody]
    image: ImageBody
    timing_ms: dict[str, float]


class ErrorBody(_Body):
    """Why there is no answer; `reason` is machine-readable where there are several."""

    code: str
    message: str
    reason: str | None = None


class ErrorResponse(_Body):
    """Body of every status of 400 and above."""

    error: ErrorBody


class ImageResult(_Body):
    """One image of several: predictions and image, or an error."""

    predictions: list[PredictionBody] | None = None
    image: ImageBody | None = None
    error: ErrorBody | None = None


class ClassifyManyResponse(_Body):
    """Answer for several images, in the order they were sent."""

    model: ModelReference
    results: list[ImageResult]
    timing_ms: dict[str, float]


class FeaturesResponse(_Body):
    """Features of one image: the pooled representation before the head, float32."""

    model: ModelReference
    features: list[float]
    image: ImageBody
    timing_ms: dict[str, float]


class FeaturesResult(_Body):
    """One image of several: features and image, or an error."""

    features: list[float] | None = None
    image: ImageBody | None = None
    error: ErrorBody | None = None


class FeaturesManyResponse(_Body):
    """Features of several images, in the order they were sent."""

    model: ModelReference
    results: list[FeaturesResult]
    timing_ms: dict[str, float]


class LoadedModel(_Body):
    """One version of a model that is loaded."""

    name: str
    version: str
    default: bool = Field(description="it answers requests that name no model")
    state: Literal["READY", "UNAVAILABLE"] = Field(description="UNAVAILABLE: no lane serves it at the moment")
    variant: str
    image_size: int = Field(description="side of the square that it sees, in pixels")
    classes: int = Field(description="0: it has no head, and gives features alone")
    features: int | None = Field(description="how many /v1/features gives; null: the bundle is older than features")
    precision: str
    engine: str


class LoadedModelsResponse(_Body):
    """What is loaded, the default first."""

    models: list[LoadedModel]


class HealthResponse(_Body):
    """A probe's good news."""

    status: str


class PageModel(_Body):
    """A model that the page offers."""

    name: str
    version: str
    digits: bool = Field(
        description="its labels are the ten digits, which are drawn for it as its training images were"
    )
    samples: int = Field(description="images that it was exported with, at page/samples/{model}/{version}/{number}")
    capacity_images_per_second: float = Field(description="of its passes alone, as measured at start")


class PageStatus(_Body):
    """What the page at `/` shows of the service; rates are of all models, means of the last 10 s."""

    ready: bool
    default: ModelReference
    models: list[PageModel]
    images_per_second: float
    images_per_second_per_core: float
    cores: float


class V2Error(_Body):
    """Body of every status of 400 and above under /v2."""

    error: str
