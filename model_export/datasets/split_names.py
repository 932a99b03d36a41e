"""The names by which people call the training, the validation and the test part."""

import re
import unicodedata

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
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.split(r"[^a-z]+", plain) if word and word not in _FILLING]
    if len(words) != 1:
        return None
    return _PART_OF.get(words[0]) or _PART_OF.get(re.sub(r"(s?daten|data|set|dir)$", "", words[0]))
