import pytest

from benchmarks.load.target import make_target


@pytest.mark.parametrize(
    ("preset", "url", "found"),
    [
        ("mixer", None, "http://127.0.0.1:8000/v1/classify"),
        ("mixer", "http://host:1", "http://host:1/v1/classify"),
        ("mixer", "http://host:1/", "http://host:1/v1/classify"),
        ("mixer", "http://host:1/own/path", "http://host:1/own/path"),
        ("mixer-v2", "https://host", "https://host/v2/models/digits/infer"),
        ("bentoml", None, "http://127.0.0.1:3000/classify"),
    ],
)
def test_a_url_gets_its_preset_s_path_unless_it_has_one(preset: str, url: str | None, found: str) -> None:
    assert make_target(preset, url).url == found


def test_a_form_and_a_model_can_be_given() -> None:
    target = make_target("triton", form="v2-json:x", model="mixer-b16")
    assert (target.url, target.form) == ("http://127.0.0.1:8000/v2/models/mixer-b16/infer", "v2-json:x")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ValueError, match="'torchserve' is not one of mixer,"):
        make_target("torchserve")
