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
        ',label\n0,"tench, Tinca tinca"\n1,goldfish\n2,great white shark\n',
        "0 tench, Tinca tinca\n1 goldfish\n2 great white shark\n",
        "tench, Tinca tinca 0\ngreat white shark 2\ngoldfish 1\n",
        "0. tench, Tinca tinca\n1. goldfish\n2. great white shark\n",
        "0 | tench, Tinca tinca\n1 | goldfish\n2 | great white shark\n",
        "tench, Tinca tinca: 0\ngoldfish: 1\ngreat white shark: 2\n",
        "names:\n  0: tench, Tinca tinca\n  1: goldfish\n  2: great white shark\n",
        json.dumps([{"id": index, "name": name} for index, name in reversed([*enumerate(CATS)])]),
        json.dumps([{"name": name, "color": [0, 0, 0]} for name in CATS]),
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
        ("a\n- b\n", "line 2: .* is no name"),
        ("# names\na\nb\n", "line 1: .* is no name"),
        ("<!DOCTYPE html>\n<html>\n", "line 1: .* is no name"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "line 1: .* is no name"),
        ("label\na\nb\n", "line 1: 'label' is a header; delete it"),
        ("1 001.Albatross\n2 002.Wren\n", "line 2: 2 is not one of the numbers 0 to 1"),
        ("0,a\n1,b\nc\n", "line 3: is not like the others"),
        ("n01440764 tench\nn01443537 goldfish\nshark\n", "line 3: is not like the others"),
        ("0,cat,Felis catus\n1,dog,Canis\n", "line 1: more than a number and a name"),
        ('"cat","Katze"\n"dog","Hund"\n', "line 1: columns without a number"),
        ('[{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]', "its numbers are not 0 to 1, each once"),
        ('[{"id": 0, "colour": "a"}]', "a record has none of name, label"),
        ("[0, 1]", "neither names nor pairs"),
        ('{"0": {"name": "a"}, "1": {"name": "b"}}', "neither"),
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


@pytest.mark.parametrize(
    "names",
    [("1 euro", "2 euro", "5 euro"), ("001.ak47", "002.flag"), ("size 36", "size 38"), ("F-16", "B-2")],
    ids=str,
)
def test_numbers_in_names_are_left_in_them(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "labels").write_text("\n".join(names))
    assert read_labels(str(tmp_path / "labels")).labels == names


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
