import pytest

from service.api.negotiation import check_accept
from service.errors import NotAcceptable


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/*;q=0.1",
        "text/html, application/xhtml+xml, application/xml;q=0.9, image/webp, */*;q=0.8",
        "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
        "application/json;q=0.001, */*;q=0",
        "*/*;q=0, application/*",
        *("json", "a/b/c", "text/html, ???", "text/html, /"),  # malformed
        "text/html," * 5000,  # more than is looked through
    ],
)
def test_json_is_accepted(accept: str) -> None:
    check_accept({"headers": [(b"accept", accept.encode())]})


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/html, image/*",
        "application/xml",
        "application/json;q=0",
        "application/json; q=0.0, text/html",
        "application/json;q=0, */*",
        "application/*;q=0, */*;q=1",
        "*/*;q=0",
        "text/html;q=0",
        'image/png;param="application/json"',
    ],
)
def test_json_is_left_out(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        check_accept({"headers": [(b"accept", accept.encode())]})
