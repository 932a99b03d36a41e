"""manifest.json: the contract between export and service, as one validated model."""

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from service.arrays import FEATURES, LOGITS

SCHEMA_VERSION: Literal[1] = 1
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
VERSION_PATTERN = r"^[1-9][0-9]*$"


def _inside_bundle(path: str) -> str:
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts or "\\" in path:
        raise ValueError(f"{path!r} points outside the bundle")
    return path


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
BundlePath = Annotated[str, Field(min_length=1), AfterValidator(_inside_bundle)]
Precision = Literal["fp32", "int8", "fp16", "bf16"]
PerChannel = tuple[float, float, float]  # R, G, B


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preprocessing(_Part):
    """How an RGB image becomes the model's pixels: short side to `resize_short`, centre crop to `crop`.

    `mean` and `std` (of values in 0..1) are recorded for the reader; the exported model holds them in its stem.
    """

    resize_short: PositiveInt
    interpolation: Literal["bilinear", "bicubic", "lanczos"]
    crop: PositiveInt
    mean: PerChannel
    std: PerChannel

    @model_validator(mode="after")
    def _crop_fits(self) -> "Preprocessing":
        if self.crop > self.resize_short:
            raise ValueError(f"crop {self.crop} exceeds resize_short {self.resize_short}")
        if min(self.std) <= 0:
            raise ValueError(f"std {self.std} is not positive")
        return self


class Source(_Part):
    """The checkpoint that the bundle was made from."""

    kind: str
    reference: str
    sha256: Sha256


class Gate(_Part):
    """What parity had to reach; what is not given was not asked for."""

    max_abs_error: PositiveFloat | None = None
    cosine: float | None = Field(default=None, ge=-1, le=1)  # of the worst image
    top1_agreement: float | None = Field(default=None, ge=0, le=1)  # of logits


class Parity(_Part):
    """One engine against the reference, from decoded images to one output, over `images` images."""

    reference: str
    engine: str = "onnxruntime"
    images: PositiveInt
    batch_sizes: list[PositiveInt]
    max_abs_error: float = Field(ge=0)
    cosine: float
    top1_agreement: float | None = Field(default=None, ge=0, le=1)  # of logits
    gate: Gate
    passed: bool


class Quantisation(_Part):
    """How int8 was calibrated."""

    calibration_images: PositiveInt
    held_out_images: PositiveInt  # those that parity was measured on
    float_layers: list[str]  # left in float32 because quantising them cost too much


class Golden(_Part):
    """Encoded images with what the reference answers to them; readiness reproduces it."""

    images: list[BundlePath] = Field(min_length=1)
    logits: BundlePath | None = None  # .npy, float32 [images, classes]; None: there is no head
    tolerance: PositiveFloat | None = None  # largest absolute difference of a logit


class Features(_Part):
    """The output `features`, float32 [N, size]: the pooled representation before the head."""

    size: PositiveInt
    golden: BundlePath  # the reference's of the golden images: .npy, float32 [images, size]
    tolerance: PositiveFloat  # largest absolute difference of a feature
    parity: list[Parity] = Field(min_length=1)  # of each engine that was installed where it was exported


class Evaluation(_Part):
    """Accuracy on images that training never saw."""

    dataset: str
    split: str
    images: PositiveInt
    top1: float = Field(ge=0, le=1)


class TensorRT(_Part):
    """An engine compiled ahead of time from model.onnx, and the only machines that it holds for."""

    provider: Literal["NvTensorRTRTXExecutionProvider", "TensorrtExecutionProvider"]  # what loads `model`
    model: BundlePath  # an ONNX file of EPContext nodes; the compiled engine is inside it or beside it
    version: str = Field(pattern=r"^\d+(\.\d+){2,3}$")  # of TensorRT, or of TensorRT-RTX
    gpu: str = Field(min_length=1)  # as the driver names it
    compute_capability: str = Field(pattern=r"^\d+\.\d+$")
    driver_api: str = Field(pattern=r"^\d+\.\d+$")  # the newest CUDA that the compiling machine's driver speaks
    profile: tuple[PositiveInt, PositiveInt, PositiveInt]  # batch sizes: smallest, fastest, largest

    @model_validator(mode="after")
    def _ascending(self) -> "TensorRT":
        if list(self.profile) != sorted(self.profile):
            raise ValueError(f"profile {self.profile} does not ascend")
        return self


class Manifest(_Part):
    """Everything the service needs to know about a bundle; it holds no constants of its own."""

    schema_version: Literal[1]
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=VERSION_PATTERN)
    task: Literal["image-classification", "image-feature-extraction"]
    variant: str
    patch: PositiveInt
    image_size: PositiveInt
    classes: NonNegativeInt  # 0: there is no head, and so no output `logits`
    parameters: PositiveInt
    gmacs: PositiveFloat
    gelu: Literal["erf", "tanh"]
    layer_norm_eps: PositiveFloat
    precision: Precision
    preprocessing: Preprocessing
    labels: BundlePath | None
    source: Source
    evaluation: Evaluation | None = None
    parity: Parity | None = None  # of the logits
    other_engines: list[Parity] = []  # parity of further engines that were installed where it was exported
    features: Features | None = None  # None: exported before bundles had this output
    quantisation: Quantisation | None = None
    golden: Golden
    tensorrt: TensorRT | None = None
    files: dict[BundlePath, Sha256]
    tools: dict[str, str]

    @property
    def outputs(self) -> dict[str, int]:
        """The width of each output of model.onnx by its name; the first is the model's answer."""
        of_features = {FEATURES: self.features.size} if self.features else {}
        return ({LOGITS: self.classes} if self.classes else {}) | of_features

    @model_validator(mode="after")
    def _consistent(self) -> "Manifest":
        if self.preprocessing.crop != self.image_size:
            raise ValueError(f"crop {self.preprocessing.crop} is not the image size {self.image_size}")
        of_logits = (self.parity, self.golden.logits, self.golden.tolerance)
        if self.classes and None in of_logits:
            raise ValueError("a model with classes needs parity, golden.logits and golden.tolerance")
        if not self.classes and (any(of_logits) or self.labels or not self.features):
            raise ValueError("a model without classes has features, and neither labels nor anything about logits")
        parities = [*filter(None, [self.parity]), *self.other_engines, *(self.features.parity if self.features else ())]
        if not all(parity.passed for parity in parities):
            raise ValueError("the parity gate did not pass")
        named = {"model.onnx", *self.golden.images, *filter(None, (self.golden.logits, self.labels))}
        if self.features:
            named.add(self.features.golden)
        if self.tensorrt:
            named.add(self.tensorrt.model)
        if missing := sorted(named - self.files.keys()):
            raise ValueError(f"files without a sha256: {', '.join(missing)}")
        return self
