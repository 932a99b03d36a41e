import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import MalformedRequest

pytest.importorskip("grpc", reason="mixer-serving[grpc] is not installed")

from service.grpc_api.envelope import open_envelope
from service.grpc_api.messages import ModelInferRequest


def request(**fields: object) -> ModelInferRequest:
    message = ModelInferRequest(model_name="digits", model_version="3", id="mine", **fields)
    message.parameters["timeout"].int64_param = 5
    tensor = message.inputs.add(name="images", datatype="UINT8", shape=[1, 2, 2, 3])
    tensor.contents.uint_contents.extend(range(0, 256, 5))
    message.outputs.add(name="logits").parameters["classification"].int64_param = 3
    return message


def test_raw_tensors_are_left_where_they_are_and_the_rest_is_the_message() -> None:
    message = request(raw_input_contents=[b"", bytes(300), b"third"])
    envelope = open_envelope(message.SerializeToString())
    assert (envelope.model, envelope.version) == ("digits", "3")
    assert [bytes(part) for part in envelope.raw] == [b"", bytes(300), b"third"]
    assert ModelInferRequest.FromString(envelope.head) == request()


def test_raw_tensors_may_be_anywhere_and_the_last_name_holds() -> None:
    """As parsers take them: messages may be joined, and fields unknown."""
    first, second = request(raw_input_contents=[b"1"]), ModelInferRequest(model_name="other", raw_input_contents=[b"2"])
    unknown = (
        b"\xf8\x07\x01" + b"\xfd\x07abcd" + b"\xf9\x07abcdefgh" + b"\xfa\x07\x02hi"
    )  # field 127, by each wire type
    envelope = open_envelope(first.SerializeToString() + unknown + second.SerializeToString())
    assert envelope.model == "other"
    assert [bytes(part) for part in envelope.raw] == [b"1", b"2"]
    assert ModelInferRequest.FromString(envelope.head).inputs == first.inputs


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_message_that_ends_early_is_none(cut: int) -> None:
    with pytest.raises(MalformedRequest, match="not a ModelInferRequest"):
        open_envelope(request(raw_input_contents=[bytes(300)]).SerializeToString()[:-cut])


@pytest.mark.parametrize(
    "message", [b"\x0b", b"\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x02\xff\xfe", b"\x09abc"]
)
def test_what_is_no_message_is_refused(message: bytes) -> None:
    """A group, half a number, one that is too long, a name that is no text, half a double."""
    with pytest.raises(MalformedRequest, match="not a ModelInferRequest"):
        open_envelope(message)


def entry(number: int, value: bytes) -> bytes:
    return bytes((number << 3 | 2, len(value))) + value


@pytest.mark.parametrize(
    "part",
    [
        b"\x2a\x00",  # inputs
        b"\x32\x00",  # outputs
        b"\x22\x00",  # parameters
        b"\x3a\x00",  # raw tensors
        b"\xf8\x07\x01",  # what is unknown
        entry(5, entry(4, b"")),
        entry(5, entry(4, entry(2, b""))),
        entry(5, entry(5, entry(8, b""))),  # an image of nothing
        entry(5, entry(5, b"\x20\x01")),  # a number that is not packed
        entry(6, entry(2, entry(2, b"\x08\x01"))),
    ],
)
def test_a_message_of_a_million_entries_is_refused_before_it_is_parsed(part: bytes) -> None:
    open_envelope(part * 100)
    with pytest.raises(MalformedRequest, match="more than 1000 fields"):
        open_envelope(part * 1_000_000)


def test_millions_of_numbers_that_are_packed_are_one_entry() -> None:
    message = request()
    message.inputs[0].contents.uint_contents.extend([7] * 2_000_000)
    assert len(open_envelope(message.SerializeToString()).head) > 2_000_000


@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"\x2a", b"\x0a", b"\x22", b"\x02", b"\x00", b"\xff", b"\x05"])).map(b"".join)
)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        envelope = open_envelope(data)
    except MalformedRequest:
        return
    assert len(envelope.head) <= len(data)
