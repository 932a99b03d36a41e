import json
from pathlib import Path

import numpy as np
import pytest

from model_export.__main__ import main
from model_export.checkpoints.description import layers_of
from model_export.variants import VARIANTS, config_of
from tests.model_export import oracle, published


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_layers_add_up_to_the_configuration(variant: str) -> None:
    config = config_of(variant, classes=1000)
    layers = layers_of(config)
    assert sum(layer.parameters for layer in layers) == config.parameters
    assert sum(layer.macs for layer in layers if "norm" not in layer.name) == config.macs
    assert len(layers) == 6 * config.layers + 3


@pytest.mark.parametrize(("variant", "parameters", "gmacs"), [("B/16", 59.88, 12.61), ("L/16", 208.20, 44.57)])
def test_published_figures(variant: str, parameters: float, gmacs: float) -> None:
    """mmpretrain/configs/mlp_mixer/metafile.yml"""
    layers = layers_of(config_of(variant, classes=1000))
    assert round(sum(layer.parameters for layer in layers) / 1e6, 2) == parameters
    assert round(sum(layer.macs for layer in layers) / 1e9, 2) == gmacs


def test_a_layer_by_hand() -> None:
    """tiny/4: 16 tokens, 16 channels, D_S 8, D_C 32."""
    layers = {layer.name: layer for layer in layers_of(config_of("tiny/4", classes=7))}
    assert vars(layers["stem"]) == {"name": "stem", "shape": (16, 3, 4, 4), "parameters": 784, "macs": 16 * 768}
    assert layers["blocks.0.token_mixing.dense_0"].macs == 16 * 16 * 8
    assert layers["blocks.1.channel_mixing.dense_1"].macs == 16 * 32 * 16
    assert layers["blocks.1.layer_norm_1"].macs == 2 * 16 * 16
    assert layers["head"].macs == 7 * 16


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "m.npz", **published.google(oracle.random_timm_weights()))
    main(["inspect", str(tmp_path / "m.npz")])
    lines = capsys.readouterr().out.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines[:5])
    assert (facts["layout"], facts["classes"], facts["parameters"]) == ("google", "7", "0.00 M")
    assert facts["variant"].startswith("tiny/4, 2 layers")
    assert "gelu            tanh" in lines
    assert "layer norm eps  1e-06" in lines
    assert "blocks.1.channel_mixing.dense_0                 32 x 16          544           8,192" in lines

    main(["inspect", "--json", str(tmp_path / "m.npz")])
    told = json.loads(capsys.readouterr().out)
    assert (told["layout"], told["variant"], told["parameters"], told["classes"]) == ("google", "tiny/4", 3767, 7)
    assert told["layer_table"][0]["shape"] == [16, 3, 4, 4]
    assert told["source"]["reference"] == "m.npz"


def test_headless(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    npz = published.google(oracle.random_timm_weights())
    np.savez(tmp_path / "m.npz", **{name: array for name, array in npz.items() if not name.startswith("head")})
    main(["inspect", str(tmp_path / "m.npz")])
    assert "none: there is no head" in capsys.readouterr().out
