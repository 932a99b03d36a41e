"""An image file without what nobody looks at: what each format's `strip` hands to the decoder."""

from dataclasses import dataclass

from service.errors import ImageTooLarge, InvalidImage

SIDE = 65_535  # pixels: the most that JPEG and GIF can say, and a bound for what is kept per row
_PIECES = 2_000  # besides those that a long file needs: each takes a microsecond


@dataclass(frozen=True, slots=True)
class Samples:
    """What the decoded samples mean, where that is more than the decoder tells."""

    colours: str  # gray, rgb, cmyk, palette or ycbcr
    alpha: str | None  # straight, premultiplied, undeclared
    bits: int
    transparent: tuple[int, ...] | None = None  # the colour


@dataclass(frozen=True, slots=True)
class Stripped:
    """What decides the pixels, and what was learnt of the rest.

    The decoder never sees metadata, so that none can be too large, too many or too damaged for it.
    """

    data: bytes
    width: int  # of the canvas, as stored
    height: int
    orientation: int = 1  # EXIF
    has_profile: bool = False  # ICC
    turned: bool = False  # by the decoder, as the container says
    at: tuple[int, int] | None = None  # the frame's place on a canvas that is larger than it
    colours: int = 0  # of the palette, if there is one
    inverted: bool = False  # zero is white
    samples: Samples | None = None
    planes: tuple[bytes, ...] = ()  # gray files of one channel each, instead of `data`


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Raise ImageTooLarge if the image has more than `max_pixels` or too long a side, InvalidImage if it has none."""
    if width < 1 or height < 1:
        raise InvalidImage(f"the image's header announces {width}x{height} pixels")
    if width * height > max_pixels:
        raise ImageTooLarge(
            f"the image has {width}x{height} pixels; at most {max_pixels} are accepted", reason="pixels"
        )
    if max(width, height) > SIDE:
        raise ImageTooLarge(
            f"the image has {width}x{height} pixels; a side of at most {SIDE} is accepted", reason="pixels"
        )


def damaged(format_: str, detail: str = "") -> InvalidImage:
    """The error of a file that does not hold the pixels that it announces."""
    return InvalidImage(f"the {format_} data is truncated or damaged" + (f": {detail}" if detail else ""))


def pieces(data: bytes, each: int) -> range:
    """As many as a file of this length may consist of, to number the pieces of a walk through it.

    Of a long one they have `each` so many bytes or more in the mean.
    """
    return range(_PIECES + len(data) // each)


def too_many_pieces(format_: str) -> ImageTooLarge:
    """The error of a file whose walk is not over then."""
    return ImageTooLarge(f"the {format_} is in too many pieces", reason="pieces")
