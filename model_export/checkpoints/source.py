"""What a source's name says, where it names neither a file nor a folder that is here."""

import re
from pathlib import Path

HUB = "hf:"
_OF_NO_FILE = (  # what a name looks like, and what to do, with the parts of the name
    (
        r"(?!hf:[^/])(?i:hf|hf[-_]hub|hub|hugging_?face):(?://)?(.+)",
        rf"is another program's name for a repository on the Hub; write {HUB}\1",
    ),
    (r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+).*", rf"is a page of the Hub; write {HUB}\1"),
    (r"file://(.+)", r"is a URL; write the path, \1"),
    (
        r"gs://(.+)",
        r"is in a bucket; download it, curl -LO https://storage.googleapis.com/\1, and name the file",
    ),
    (r"(?:https?|ftp)://.+", r"is a URL; download it, curl -LO \g<0>, and name the file"),
    (r"[A-Za-z][A-Za-z0-9+.-]+://.+", r"is a URL; download it and name the file"),
)
_OF_NO_FILE_HERE = (
    (
        r"(?:timm[:/])?((?:mixer|gmixer|resmlp|gmlp)_\w+(?:\.(?!safetensors$|bin$|pth?$|npz$|ckpt$)\w+)?)",
        rf"no such file; timm's models are on the Hub, each with its tag: write {HUB}timm/\1",
    ),
    (
        r"(?!.*\.(?:npz|safetensors|pth|pt|bin|tar|ckpt|onnx|pt2|json)$)[\w-][\w.-]*/[\w.-]+",
        rf"no such file; if it is a repository on the Hub, write {HUB}\g<0>",
    ),
)


def what_to_write(source: str) -> str | None:
    """What to do instead with a source that is no file here: one sentence, or None if its name says nothing."""
    looks = _OF_NO_FILE if Path(source).exists() else _OF_NO_FILE + _OF_NO_FILE_HERE
    matches = ((re.fullmatch(pattern, source), advice) for pattern, advice in looks)
    return next((match.expand(advice) for match, advice in matches if match), None)
