"""The committed digits bundle is what its manifest says, through the service's own pipeline."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model_export.bundles.parity import pipeline
from model_export.bundles.publish import verify
from model_export.datasets import digits
from service.bundles.bundle import Bundle, load_bundle
from service.engines.choice import cpu_engines
from service.engines.engine import Engine
from service.images.decode import decode
from service.images.preprocess import Preprocessor
from tests.doubles import encode

PATH = Path(__file__).parent.parent.parent.parent / "models" / "digits" / "1"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(PATH)


@pytest.fixture(scope="module", params=["onnxruntime", "openvino"])
def engine(bundle: Bundle, request: pytest.FixtureRequest) -> Engine:
    build = cpu_engines(bundle.model_path, bundle.manifest.precision, threads=1)[request.param]
    return build()


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_it_is_small_and_verified() -> None:
    assert sum(file.stat().st_size for file in PATH.rglob("*") if file.is_file()) < 2 * 2**20
    assert verify(PATH) < 0.1  # of logits up to 10: it is int8


def test_held_out_accuracy_is_what_the_manifest_says_and_at_least_99_percent(bundle: Bundle, engine: Engine) -> None:
    _, held_out = digits.load_split()
    prepare = pipeline(bundle.manifest.preprocessing)
    right = []
    for on_white in (False, True):
        images = (digits.render(held_out.ink, on_white)[:, 0] * 255).round().numpy().astype(np.uint8)
        logits = engine.run(np.stack([prepare(png(image)) for image in images]))
        right.append(logits.argmax(axis=1) == held_out.classes.numpy())
    accuracy = np.mean(right)
    evaluation = bundle.manifest.evaluation
    assert evaluation is not None
    assert evaluation.top1 >= 0.99
    assert accuracy == pytest.approx(evaluation.top1, abs=2 / 720)  # 8-bit files round what training saw


def test_its_sample_digits_are_recognised(bundle: Bundle, engine: Engine) -> None:
    prepare = pipeline(bundle.manifest.preprocessing)
    samples = {name: prepare((PATH / name).read_bytes()) for name in bundle.manifest.golden.images}
    assert len(samples) == 10
    for name, pixels in samples.items():
        assert f"digit-{engine.run(pixels[None]).argmax()}.png" in name


@pytest.mark.parametrize("side", [128, 517, 1400])
def test_a_large_jpeg_decoded_at_a_fraction_is_recognised_as_the_full_one(
    bundle: Bundle, engine: Engine, side: int
) -> None:
    spec = bundle.manifest.preprocessing
    prepare, preprocess = pipeline(spec), Preprocessor(spec)
    for name in bundle.manifest.golden.images:
        image = Image.open(PATH / name).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
        data = encode(image, "JPEG")
        full = decode(data, side * side).image
        assert decode(data, side * side, smallest=2 * spec.resize_short).image.width < full.width == side
        scaled_class, full_class = (engine.run(pixels[None]).argmax() for pixels in (prepare(data), preprocess(full)))
        assert scaled_class == full_class
        assert f"digit-{scaled_class}.png" in name


@pytest.mark.parametrize("size", [1, 2, 5, 16])
def test_an_answer_never_depends_on_batch_mates(bundle: Bundle, engine: Engine, size: int) -> None:
    """At one batch size the logits are bit-identical whatever the neighbours; between sizes they differ by rounding."""
    random = np.random.default_rng(0)
    prepare = pipeline(bundle.manifest.preprocessing)
    image = prepare((PATH / "golden" / "digit-7.png").read_bytes())
    alone = engine.run(image[None])[0]
    answers = []
    for position in range(size):
        batch = random.integers(0, 256, (size, *image.shape), np.uint8)
        batch[position] = image
        answers.append(engine.run(batch)[position])
    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    assert np.abs(answers[0] - alone).max() <= 1e-4 * np.abs(alone).max()
