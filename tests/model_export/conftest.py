from pathlib import Path

import pytest
from safetensors.numpy import save_file

from tests.model_export import oracle


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny/4 Mixer in timm's layout."""
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    save_file(oracle.random_timm_weights(), path)
    return path
