"""The data of the embedded default: scikit-learn's handwritten digits, their split and their augmentation.

1,797 digits of 8x8 pixels and 17 levels (UCI "Optical Recognition of Handwritten Digits"), the only real images that
need no download.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Generator, Tensor
from torch.nn import functional

from service.bundles.manifest import Preprocessing

IMAGE_SIZE = 32
LABELS = tuple("0123456789")
PREPROCESSING = Preprocessing(
    resize_short=IMAGE_SIZE, interpolation="bicubic", crop=IMAGE_SIZE, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)
)
HELD_OUT_SPLIT = "stratified 20 %, train_test_split(random_state=0)"


@dataclass(frozen=True)
class Digits:
    """Ink masks, float32 [N, 1, 32, 32] in 0..1 (1 = ink), and their classes, int64 [N]."""

    ink: Tensor
    classes: Tensor


def load_split() -> tuple[Digits, Digits]:
    """(training, held out): always the same fixed, stratified 20 % is held out."""
    images, classes = load_digits(return_X_y=True)
    ink = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    ink = functional.interpolate(ink, size=IMAGE_SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
    train, held_out = train_test_split(range(len(classes)), test_size=0.2, stratify=classes, random_state=0)
    classes = torch.tensor(classes)
    return Digits(ink[train], classes[train]), Digits(ink[held_out], classes[held_out])


@dataclass(frozen=True)
class DigitImages:
    """One part of the digits as images for `model_export.datasets.data`, white on black as scanned."""

    part: str
    digits: Digits
    classes: tuple[str, ...] = LABELS

    @property
    def labels(self) -> Sequence[int]:
        """The class of every image."""
        labels: list[int] = self.digits.classes.tolist()
        return labels

    def __len__(self) -> int:
        return len(self.digits.classes)

    def load(self, index: int) -> Image.Image:
        """The digit, 32x32 RGB."""
        return Image.fromarray((self.digits.ink[index, 0] * 255).round().to(torch.uint8).numpy()).convert("RGB")

    def name(self, index: int) -> str:
        """Its part and number: "val/12"."""
        return f"{self.part}/{index}"


def open_digits() -> dict[str, DigitImages]:
    """{"train", "val"}: the fixed split, where val is the held-out fifth."""
    train, held_out = load_split()
    return {"train": DigitImages("train", train), "val": DigitImages("val", held_out)}


def render(ink: Tensor, on_white: bool) -> Tensor:
    """Ink masks [N, 1, H, W] -> RGB in 0..1, [N, 3, H, W]: white on black as scanned, or black on white."""
    return (1 - ink if on_white else ink).expand(-1, 3, -1, -1)


def normalise(images: Tensor) -> Tensor:
    """RGB in 0..1 -> the network's input."""
    return (images - 0.5) / 0.5


def augment(ink: Tensor, generator: Generator) -> Tensor:
    """Training images in 0..1, [N, 3, 32, 32], such that digits drawn by hand in other tools look familiar.

    Each digit is shifted, scaled, rotated, sheared and bent; its stroke is made thinner or thicker, softer or
    sharper; a pen and a paper colour are drawn, half of the time plain black and white, in either polarity.
    """
    n = len(ink)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=generator)

    angle, shear = uniform(-0.3, 0.3), uniform(-0.25, 0.25)
    scale_x, scale_y = uniform(0.75, 1.6), uniform(0.85, 1.6)  # of the sampling grid: above 1 shrinks the digit
    shift = uniform(-0.25, 0.25, 2)
    cos, sin = torch.cos(angle), torch.sin(angle)
    affine = torch.stack(
        [
            torch.stack([scale_x * cos, scale_x * (shear * cos - sin), shift[:, 0]], dim=1),
            torch.stack([scale_y * sin, scale_y * (shear * sin + cos), shift[:, 1]], dim=1),
        ],
        dim=1,
    )
    grid = functional.affine_grid(affine, [n, 1, IMAGE_SIZE, IMAGE_SIZE], align_corners=False)
    bend = 0.06 * torch.randn(n, 2, 4, 4, generator=generator)
    grid = grid + functional.interpolate(bend, size=IMAGE_SIZE, mode="bicubic").permute(0, 2, 3, 1)
    ink = functional.grid_sample(ink, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    # Most sevens here are crossed, most eights tightly closed: what a square hides must not be needed.
    rows, columns = torch.arange(IMAGE_SIZE).view(1, 1, -1, 1), torch.arange(IMAGE_SIZE).view(1, 1, 1, -1)
    top, left, side = uniform(4, 22, 1, 1, 1), uniform(0, 22, 1, 1, 1), uniform(5, 12, 1, 1, 1)
    hidden = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
    ink = torch.where(hidden & (uniform(0, 1, 1, 1, 1) < 0.4), 0.0, ink)

    # The scans were made small by averaging, which fills loops and joints: sharpen by as much as brings them back.
    blurred = functional.avg_pool2d(ink, kernel_size=7, stride=1, padding=3)
    ink = (ink + uniform(0, 1.5, 1, 1, 1) * (ink - blurred)).clamp(0, 1)

    # A soft mask cut at a low level gives a thick stroke, at a high level a thin one; the slope sets its sharpness.
    level, slope = uniform(0.2, 0.8, 1, 1, 1), uniform(4, 30, 1, 1, 1)
    cut = torch.sigmoid((ink - level) * slope)
    ink = torch.where(uniform(0, 1, 1, 1, 1) < 0.7, cut, ink)

    pen, paper = uniform(0.6, 1.0, 3, 1, 1), uniform(0.0, 0.35, 3, 1, 1)
    plain = uniform(0, 1, 1, 1, 1) < 0.5
    pen, paper = torch.where(plain, 1.0, pen), torch.where(plain, 0.0, paper)
    images = paper + (pen - paper) * ink
    images = images + uniform(0, 0.04, 1, 1, 1) * torch.randn(images.shape, generator=generator)
    images = torch.where(uniform(0, 1, 1, 1, 1) < 0.5, 1 - images, images)
    return images.clamp(0, 1)


def training_pngs() -> dict[str, bytes]:
    """Every sixth training digit as a PNG of 32x32 pixels, by file name; every other one is black on white."""
    training, _ = load_split()
    images = enumerate(training.ink[::6, None])
    return {f"train-{6 * i}.png": _png(ink, on_white=i % 2 == 1) for i, ink in images}


def sample_pngs() -> dict[str, bytes]:
    """One held-out digit of each class as a PNG of 128x128 pixels, by file name; odd digits are black on white."""
    _, held_out = load_split()
    pngs = {}
    for label in range(10):
        ink = held_out.ink[held_out.classes == label][:1]
        large = functional.interpolate(ink, size=128, mode="bicubic", align_corners=False).clamp(0, 1)
        pngs[f"digit-{label}.png"] = _png(large, on_white=label % 2 == 1)
    return pngs


def _png(ink: Tensor, on_white: bool) -> bytes:
    gray = (render(ink, on_white)[0, 0] * 255).round().to(torch.uint8).numpy()
    file = io.BytesIO()
    Image.fromarray(gray).save(file, "PNG", optimize=True)
    return file.getvalue()
