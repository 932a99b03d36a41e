"""JPEG: libjpeg-turbo by way of imagecodecs as the independent reader, and files without an end."""

import struct

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from benchmarks.photograph import photograph
from service.errors import ImageTooLarge, InvalidImage, UnsupportedImage
from service.images.decode import decode
from tests.doubles import encode
from tests.service.images.expected import LIMIT, gray, judge

PHOTO = np.asarray(photograph(120, 96))


def reading(data: bytes) -> np.ndarray:
    """Of a JPEG of one or three channels, by imagecodecs."""
    samples = imagecodecs.jpeg8_decode(data) / 255
    return gray(samples) if samples.ndim == 2 else samples


@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411"])
@pytest.mark.parametrize("progressive", [False, True])
def test_colours(subsampling: str, progressive: bool) -> None:
    data = imagecodecs.jpeg8_encode(PHOTO, level=90, subsampling=subsampling)
    if progressive:
        data = encode(photograph(120, 96), "JPEG", progressive=True, quality=90)
    assert judge(data, reading(data)) == "right"


def test_gray_and_rgb_that_is_not_ycbcr() -> None:
    data = imagecodecs.jpeg8_encode(PHOTO[..., 1].copy(), level=90)
    assert judge(data, reading(data)) == "right"
    data = imagecodecs.jpeg8_encode(PHOTO, level=90, outcolorspace="RGB")
    assert judge(data, reading(data)) == "right"
    assert np.abs(reading(data) - PHOTO / 255).mean() < 0.03


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_and_ycck_as_adobe_stores_them_inverted(transform: int) -> None:
    inks = np.random.default_rng(0).integers(0, 256, (2, 3, 4)).repeat(16, axis=0).repeat(16, axis=1).astype(np.uint8)
    space = {0: "CMYK", 2: "YCCK"}[transform]
    data = imagecodecs.jpeg8_encode(255 - inks, level=100, colorspace="CMYK", outcolorspace=space, subsampling="444")
    assert bytes([0x64, 0, 0, 0, 0, transform]) in data
    read = 255 - imagecodecs.jpeg8_decode(data, colorspace=space, outcolorspace="CMYK").astype(float)
    picture = (1 - read[..., :3] / 255) * (1 - read[..., 3:] / 255)
    assert judge(data, picture) == "right"
    assert np.abs(read - inks).mean() < 3


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (imagecodecs.jpeg8_encode(np.zeros((8, 8), np.uint16), bitspersample=12), "12 bits a channel"),
        (imagecodecs.ljpeg_encode(np.zeros((8, 8), np.uint16), bitspersample=16), "lossless JPEG"),
        (imagecodecs.jpegls_encode(np.zeros((8, 8), np.uint8)), "JPEG-LS"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_kinds_of_jpeg_are_refused_by_name(data: bytes, told: str) -> None:
    with pytest.raises(UnsupportedImage, match=told):
        decode(data, LIMIT)


FILES = {
    "baseline": encode(photograph(120, 96), "JPEG", quality=90),
    "progressive": encode(photograph(120, 96), "JPEG", quality=90, progressive=True),
    "restarts": encode(photograph(120, 96), "JPEG", quality=90, restart_marker_rows=1),
    "gray": encode(photograph(120, 96).convert("L"), "JPEG", quality=90),
    "one block": encode(photograph(8, 8), "JPEG", quality=90),
}


@pytest.mark.parametrize("smallest", [None, 24, 12])
@pytest.mark.parametrize("kind", FILES)
def test_what_lacks_its_end_alone_is_whole(kind: str, smallest: int | None) -> None:
    data = FILES[kind]
    whole = np.asarray(decode(data, LIMIT, smallest=smallest).image)
    for cut in (1, 2):
        assert np.array_equal(np.asarray(decode(data[:-cut], LIMIT, smallest=smallest).image), whole)


@pytest.mark.parametrize("kind", FILES)
def test_what_lacks_more_is_the_same_picture_or_refused(kind: str) -> None:
    """Of the last bytes, some hold nothing but padding."""
    data = FILES[kind]
    whole = np.asarray(decode(data, LIMIT).image)
    start = data.rindex(b"\xff\xda") + 14
    served = 0
    for cut in [
        *range(start, len(data) - 40, max(1, (len(data) - start) // 60)),
        *range(max(start, len(data) - 40), len(data)),
    ]:
        try:
            assert np.array_equal(np.asarray(decode(data[:cut], LIMIT).image), whole), cut
            served += 1
        except InvalidImage as error:
            assert "JPEG data is truncated or damaged: " in error.message
    assert 2 <= served <= 4


def test_a_truncated_file_says_how_much_is_there() -> None:
    with pytest.raises(InvalidImage, match=r"truncated or damaged: (3|4|5|6)\d of 96 rows of pixels are there"):
        decode(FILES["baseline"][: len(FILES["baseline"]) * 6 // 10], LIMIT)
    scans = FILES["progressive"].count(b"\xff\xda")
    with pytest.raises(InvalidImage, match=f"it ends within scan {scans}"):
        decode(FILES["progressive"][:-30], LIMIT)


@pytest.mark.parametrize("smallest", [None, 12])
@pytest.mark.parametrize("kind", ["baseline", "restarts", "gray", "cmyk"])
def test_a_file_whose_end_comes_before_its_last_pixels_says_how_much_is_there(kind: str, smallest: int | None) -> None:
    """To the decoder, what is not there is gray."""
    data = {**FILES, "cmyk": encode(photograph(120, 96).convert("CMYK"), "JPEG", quality=90)}[kind]
    for behind in (b"\xff\xd9", b"\xff\xfe\0\2\xff\xd9", b"\xff\xd9" + bytes(1000)):
        with pytest.raises(InvalidImage, match=r"(3|4|5|6)\d of 96 rows of pixels are there"):
            decode(data[: len(data) * 6 // 10] + behind, LIMIT, smallest=smallest)


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_picture_that_is_gray_to_its_end_is_whole(mode: str) -> None:
    data = encode(Image.new(mode, (40, 30), {"L": 128, "RGB": (128,) * 3, "CMYK": (127,) * 4}[mode]), "JPEG")
    for cut in (0, 2):
        assert decode(data[: len(data) - cut], LIMIT).info.width == 40


def test_a_progressive_file_cut_between_two_scans_is_not_whole() -> None:
    data = FILES["progressive"]
    cuts = [at for at in range(data.index(b"\xff\xda"), len(data) - 2) if data[at : at + 2] == b"\xff\xc4"]
    assert len(cuts) > 4  # every scan has tables of its own, behind the one before
    for cut in cuts:
        with pytest.raises(InvalidImage, match=r"it ends after scan \d"):
            decode(data[:cut], LIMIT)


def test_metadata_of_any_kind_and_damage_changes_nothing() -> None:
    data = FILES["baseline"]
    whole = np.asarray(decode(data, LIMIT).image) / 255
    sof = data.index(b"\xff\xc0")
    for marker in (*range(0xE1, 0xEE), 0xEF, 0xFE):
        for body in (b"", b"Exif\0\0", b"Exif\0\0II*\0" + b"\xff" * 90, b"ICC_PROFILE\0", b"MPF\0" + b"\xff" * 40,
                     b"Photoshop 3.0\x008BIM\xff\xff", b"FPXR\0", bytes(65_533)):  # fmt: skip
            segment = bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body
            for at in (2, sof):
                assert judge(data[:at] + segment + data[at:], whole) == "right"
    assert judge(data[:2] + b"\xff" * 50 + data[3:], whole) == "right"  # fill bytes


def test_a_thumbnail_in_a_segment_of_a_wrong_length_is_not_the_image() -> None:
    thumbnail = encode(photograph(16, 16), "JPEG")
    exif = b"\xff\xe1\x00\x10" + b"Exif\0\0II*\0" + bytes(20) + thumbnail
    with pytest.raises(InvalidImage):
        decode(FILES["baseline"][:2] + exif + FILES["baseline"][2:], LIMIT)


def test_the_first_exif_counts() -> None:
    data = FILES["baseline"]
    upright, turned = (
        b"\xff\xe1\0\x22Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x112, 3, 1, value, 0, 0) for value in (1, 3)
    )
    assert not decode(data[:2] + upright + turned + data[2:], LIMIT).info.orientation_applied
    assert decode(data[:2] + turned + upright + data[2:], LIMIT).info.orientation_applied


def test_a_height_that_follows_the_pixels_is_refused_by_name() -> None:
    sof = FILES["baseline"].index(b"\xff\xc0")
    with pytest.raises(UnsupportedImage, match="DNL"):
        decode(FILES["baseline"][: sof + 5] + b"\0\0" + FILES["baseline"][sof + 7 :], LIMIT)


def test_many_segments_are_refused() -> None:
    data = FILES["baseline"]
    with pytest.raises(ImageTooLarge, match="1000 segments"):
        decode(data[:2] + b"\xff\xfe\0\2" * 1000 + data[2:], LIMIT)
