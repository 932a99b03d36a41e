"""The models that serve now: several, and several versions of one."""

from collections.abc import Collection

from service.errors import UnknownModel
from service.metrics import Metrics
from service.models.classifier import Classifier


class LoadedModels:
    """Classifiers in the order of the settings, by default alphabetical, of each model its latest version first.

    The first one is the default model's. Used on the event loop, once it runs.
    """

    def __init__(self, models: list[str], metrics: Metrics) -> None:
        """`models` are those of the settings."""
        self._names = list(dict.fromkeys(model.partition("/")[0] for model in models))
        self._metrics = metrics
        self._classifiers: list[Classifier] = []

    @property
    def classifiers(self) -> list[Classifier]:
        """A copy, which stays as it is when models come and go."""
        return list(self._classifiers)

    def versions(self, name: str) -> list[Classifier]:
        """Those of one model, the latest first."""
        return [classifier for classifier in self._classifiers if classifier.manifest.name == name]

    def find(self, name: str | None = None, version: str | None = None) -> Classifier:
        """One version of a model, by default the latest of the default model; raises UnknownModel."""
        for classifier in self.versions(self._classifiers[0].manifest.name if name is None else name):
            if version in (None, classifier.manifest.version):
                return classifier
        raise UnknownModel("no such model or version is loaded")

    def change(self, *, add: Collection[Classifier] = (), remove: Collection[Classifier] = ()) -> None:
        """Let some serve instead of others, at once."""
        stay = [classifier for classifier in self._classifiers if classifier not in remove]
        self._classifiers = sorted([*stay, *add], key=self._place)
        versions = {(c.manifest.name, c.manifest.version): c for c in self._classifiers}
        self._metrics.lanes.set(sum(classifier.lanes.size for classifier in self._classifiers))
        self._metrics.lane_threads.set(max((classifier.lanes.threads for classifier in self._classifiers), default=0))
        self._metrics.show_loaded(
            [classifier.info for classifier in self._classifiers],
            {of: classifier.loaded.pass_seconds for of, classifier in versions.items()},
            {of: classifier.images_per_second for of, classifier in versions.items()},
        )

    def _place(self, classifier: Classifier) -> tuple[int, str, int]:
        name = classifier.manifest.name
        named = self._names.index(name) if name in self._names else len(self._names)
        return named, name, -int(classifier.manifest.version)
