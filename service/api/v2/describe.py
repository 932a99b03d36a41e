"""What a model takes, gives, and how it runs here."""

from service.api.body import MAX_IMAGES_PER_REQUEST
from service.api.v2.names import IMAGE_BYTES, IMAGES, widths
from service.api.v2.schemas import (
    DynamicBatching,
    ModelConfig,
    ModelMetadata,
    QueuePolicy,
    TensorConfig,
    TensorMetadata,
)
from service.arrays import FEATURES
from service.models.classifier import Classifier
from service.settings import Settings

EXTENSIONS = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]

_PLATFORM = "onnx_onnxv1"  # whichever engine runs it, a bundle is an ONNX file


def metadata(classifier: Classifier, versions: list[str]) -> ModelMetadata:
    """A model's tensors; `versions` are those that are loaded."""
    manifest = classifier.manifest
    side = manifest.image_size
    return ModelMetadata(
        name=manifest.name,
        versions=versions,
        platform=_PLATFORM,
        inputs=[
            TensorMetadata(name=IMAGES, datatype="UINT8", shape=[-1, side, side, 3]),
            TensorMetadata(name=IMAGE_BYTES, datatype="BYTES", shape=[-1, 1]),
        ],
        outputs=[
            TensorMetadata(name=name, datatype="FP32", shape=[-1, width]) for name, width in widths(manifest).items()
        ],
    )


def config(classifier: Classifier, versions: list[str], settings: Settings) -> ModelConfig:
    """Triton's ModelConfig (its common repository, protobuf/model_config.proto), and the choices made here."""
    manifest, loaded, lanes = classifier.manifest, classifier.loaded, classifier.lanes
    side = manifest.image_size
    return ModelConfig(
        name=manifest.name,
        platform=_PLATFORM,
        backend="mixer",
        version_policy={"specific": {"versions": [int(version) for version in versions]}},
        max_batch_size=min(MAX_IMAGES_PER_REQUEST, settings.max_inflight_images),
        input=[
            TensorConfig(name=IMAGES, data_type="TYPE_UINT8", dims=[side, side, 3], optional=True),
            TensorConfig(name=IMAGE_BYTES, data_type="TYPE_STRING", dims=[1], optional=True),
        ],
        output=[
            TensorConfig(
                name=name,
                data_type="TYPE_FP32",
                dims=[width],
                label_filename=None if name == FEATURES else manifest.labels,
            )
            for name, width in widths(manifest).items()
        ],
        dynamic_batching=DynamicBatching(
            preferred_batch_size=[loaded.max_batch_size],
            max_queue_delay_microseconds=round(settings.max_queue_delay_ms * 1000),
            priority_levels=2,
            default_priority_level=1,
            default_queue_policy=QueuePolicy(
                timeout_action="REJECT",
                default_timeout_microseconds=round(settings.deadline_ms * 1000),
                allow_timeout_override=True,
                max_queue_size=settings.max_inflight_images,
            ),
        ),
        version=manifest.version,
        precision=manifest.precision,
        gmacs=manifest.gmacs,
        engine=loaded.description,
        engines_considered=loaded.considered,
        lanes=lanes.size,
        lane_threads=lanes.threads,
        engine_max_batch_size=loaded.max_batch_size,
        pass_seconds=loaded.pass_seconds,
        images_per_second=classifier.images_per_second,
    )
