"""A model's counters in the words of Triton's statistics extension (docs/protocol/extension_statistics.md)."""

from service.api.v2.schemas import AllStatistics, BatchStatistics, Duration, InferStatistics, ModelStatistics
from service.models.classifier import Classifier
from service.scheduling.statistics import Total


def statistics(classifiers: list[Classifier]) -> AllStatistics:
    """Of each model, since it was loaded."""
    return AllStatistics(model_stats=[_of(classifier) for classifier in classifiers])


def _of(classifier: Classifier) -> ModelStatistics:
    manifest, counted = classifier.manifest, classifier.statistics
    nothing = Duration(count=0, ns=0)  # there is no cache
    return ModelStatistics(
        name=manifest.name,
        version=manifest.version,
        last_inference=int(counted.last_pass * 1000),
        inference_count=counted.images,
        execution_count=sum(total.count for total in counted.passes.values()),
        inference_stats=InferStatistics(
            success=_duration(counted.success),
            fail=_duration(counted.fail),
            queue=_duration(counted.stages["queue"]),
            compute_input=_duration(counted.stages["decode"]),
            compute_infer=_duration(counted.stages["infer"]),
            compute_output=_duration(counted.stages["post"]),
            cache_hit=nothing,
            cache_miss=nothing,
        ),
        batch_stats=[
            BatchStatistics(
                batch_size=size,
                # A batch's images are decoded one by one, and that is counted by request, above.
                compute_input=Duration(count=total.count, ns=0),
                compute_infer=_duration(total),
                compute_output=Duration(count=total.count, ns=0),
            )
            for size, total in sorted(counted.passes.items())
        ],
    )


def _duration(total: Total) -> Duration:
    return Duration(count=total.count, ns=round(total.seconds * 1e9))
