import pytest

from model_export.variants import VARIANTS, MixerConfig, config_of

# Parameters with a 1000-class head; multiply-accumulates of one image. B/16 and L/16 are published figures
# (google-research/vision_transformer, mmpretrain), the others follow from Table 1 of the paper.
PARAMETERS = {
    "S/32": 19_104_624,
    "S/16": 18_528_264,
    "B/32": 60_293_428,
    "B/16": 59_880_472,
    "L/32": 206_939_264,
    "L/16": 208_196_168,
    "H/14": 432_350_952,
    "S/8": 20_646_504,
}
GMACS = {
    "S/32": 1.00,
    "S/16": 3.78,
    "B/32": 3.24,
    "B/16": 12.60,
    "L/32": 11.25,
    "L/16": 44.55,
    "H/14": 120.99,
    "S/8": 14.88,
}


def test_every_published_variant_has_a_row() -> None:
    assert VARIANTS.keys() == PARAMETERS.keys() | {"XS/4", "tiny/4"}
    assert GMACS.keys() == PARAMETERS.keys()


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameters_and_macs(variant: str) -> None:
    config = config_of(variant, classes=1000)
    assert config.parameters == PARAMETERS[variant]
    assert config.macs / 1e9 == pytest.approx(GMACS[variant], abs=0.005)
    assert config.variant == variant


def test_other_dimensions_are_called_custom() -> None:
    assert MixerConfig(8, 24, 12, 48, 3, 32, 5).variant == "custom/8"


def test_unknown_variant_and_impossible_dimensions() -> None:
    with pytest.raises(ValueError, match="known: S/32"):
        config_of("Z/99", 10)
    with pytest.raises(ValueError, match="multiple of the patch"):
        MixerConfig(5, 24, 12, 48, 3, 32, 10)
    with pytest.raises(ValueError, match="gelu"):
        MixerConfig(4, 24, 12, 48, 3, 32, 10, gelu="relu")  # type: ignore[arg-type]
