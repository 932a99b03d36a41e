"""The names by which people call the training, the validation and the test part."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from model_export.datasets.dataset import Part

# English first; French, Spanish, Portuguese, Italian and German after it, without their accents.
_WORDS: dict[Part, str] = {
    "train": "train training trn trainval entrainement apprentissage entrenamiento treino treinamento addestramento",
    "val": "val valid validation validate validating dev eval evaluation validacion validacao validazione validierung",
    "test": "test tests testing tst holdout prueba pruebas teste testes",
}
_PART_OF = {word: part for part, words in _WORDS.items() for word in words.split()}
_FILLING = {"set", "data", "dataset", "split", "part", "images", "image", "imgs", "img", "labels", "label", "list"}
_FILLING |= {"annotations", "metadata", "file", "files", "names", "seg"}


def split_of(name: str) -> Part | None:
    """The part that `name` calls a folder or a table: "Training", "val_set", "test2017"; None if it calls none."""
    words = [word for word in words_of(name) if word not in _FILLING]
    return _part_of(words[0]) if len(words) == 1 else None


def parts_among(names: Iterable[str]) -> dict[str, Part]:
    """Those of `names` that call a part, alone or beside words that another part shares: "cars_train", "cars_test"."""
    parts: dict[str, Part] = {}
    beside: dict[tuple[str, ...], dict[str, Part]] = defaultdict(dict)
    for name in names:
        words = words_of(name)
        called = [part for word in words if (part := _part_of(word))]
        if part := split_of(name):
            parts[name] = part
        elif len(called) == 1:
            beside[tuple(word for word in words if not _part_of(word))][name] = called[0]
    for shared in beside.values():
        if len(set(shared.values())) > 1:
            parts |= shared
    return parts


def words_of(name: str) -> list[str]:
    """The words in a name, lower case, without accents and numbers."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return [word.lower() for word in re.split(r"[^A-Za-z]+|(?<=[a-z])(?=[A-Z])", plain) if word]


def _part_of(word: str) -> Part | None:
    return _PART_OF.get(word) or _PART_OF.get(re.sub(r"(s?daten|data|set|dir)$", "", word))
