import json
from pathlib import Path

import pytest

from model_export.checkpoints.labels_file import LabelsError, read_labels

CATS = ("tench, Tinca tinca", "goldfish", "great white shark")
SYNSETS = ("n01440764", "n01443537", "n01484850")


@pytest.mark.parametrize(
    "text",
    [
        "tench, Tinca tinca\ngoldfish\ngreat white shark\n",
        "\ufefftench, Tinca tinca\r\ngoldfish\r\ngreat white shark\r\n",
        "tench, Tinca tinca\ngoldfish\ngreat white shark\n\n\n",
        json.dumps(CATS),
        json.dumps(dict(enumerate(CATS)), indent=1),
        json.dumps({name: index for index, name in enumerate(CATS)}),
        "{0: 'tench, Tinca tinca',\n 1: 'goldfish',\n 2: 'great white shark'}",
        "0: 'tench, Tinca tinca',\n1: 'goldfish',\n2: 'great white shark'",
        "['tench, Tinca tinca', 'goldfish', 'great white shark']",
        '0,"tench, Tinca tinca"\n1,goldfish\n2,great white shark',
        'index,label\n2,great white shark\n1,goldfish\n0,"tench, Tinca tinca"\n',
        '"tench, Tinca tinca",0\ngoldfish,1\ngreat white shark,2',
        "class\tindex\ntench, Tinca tinca\t0\ngoldfish\t1\ngreat white shark\t2",
        '"tench, Tinca tinca",\n"goldfish",\n"great white shark"',
    ],
)
def test_forms_that_are_understood(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels").write_bytes(text.encode())
    assert read_labels(str(tmp_path / "labels")).labels == CATS


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(
            {str(i): pair for i, pair in enumerate(zip(SYNSETS, CATS, strict=True))}
        ),  # imagenet_class_index.json
        "".join(f"{synset} {name}\n" for synset, name in zip(SYNSETS, CATS, strict=True)),  # synset_words.txt
        "".join(f"{synset}\t{name}\n" for synset, name in zip(SYNSETS, CATS, strict=True)),
    ],
    ids=["imagenet_class_index.json", "synset_words.txt", "tsv"],
)
def test_synsets_and_names_are_both_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels").write_text(text)
    names = read_labels(str(tmp_path / "labels"))
    assert (names.labels, names.synsets) == (CATS, SYNSETS)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a\n\nc\n", "line 2 is empty"),
        ("a\nb\x00\nc\n", "line 2 holds a character that cannot be printed"),
        ("a\nb\u2028b\nc\n", "line 2 holds a character that cannot be printed"),
        ('{"0": "a",\n"1": "b"\n"2": "c"}', "line 3: neither JSON nor"),
        ('["a",\n"b",\n', "line 3: neither JSON nor"),
        ("1,a\n2,b\n3,c\n", "line 3: 3 is not one of the numbers 0 to 2"),
        ("0,a\n1,b\n1,c\n", "line 3: 1 is not one of the numbers"),
        ("a,b,c\nd,e,f\n", "line 1: columns without a number"),
        ('a\n"b",\nc', "line 2: .* is no name"),
        ("a\n}\nc", "line 2: .* is no name"),
        ('{"0": "a", "1": ""}', "the name of class 1 is empty"),
        ('{"a": 0, "b": 2}', "not 0 to 1, each once"),
        ('{"a": [1, 2]}', "neither"),
        ("[[1]]", "neither names nor pairs"),
        ("", "line 1 is empty"),
        ("[]", "holds no names"),
        ("LABEL_0\nLABEL_1\n", "holds no names"),
    ],
)
def test_anything_else_is_refused_with_its_line(tmp_path: Path, text: str, cause: str) -> None:
    (tmp_path / "labels").write_text(text)
    with pytest.raises(LabelsError, match=cause):
        read_labels(str(tmp_path / "labels"))


def test_line_breaks_inside_names_become_spaces(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text(json.dumps(["a\nb", "c\r\n d", "e"]))
    assert read_labels(str(tmp_path / "labels")).labels == ("a b", "c d", "e")


def test_digits_are_names(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("0\n1\n2\n")
    assert read_labels(str(tmp_path / "labels")).labels == ("0", "1", "2")


def test_imagenet_1k() -> None:
    names = read_labels("imagenet-1k")
    assert names.synsets is not None
    assert len(names.labels) == len(names.synsets) == len({label.lower() for label in names.labels}) == 1000
    assert list(names.synsets) == sorted(names.synsets)
    known = {
        0: "tench",
        1: "goldfish",
        207: "golden retriever",
        281: "tabby",
        948: "Granny Smith",
        999: "toilet tissue",
    }
    assert {index: names.labels[index] for index in known} == known
    assert (names.synsets[0], names.synsets[999]) == ("n01440764", "n15075141")
