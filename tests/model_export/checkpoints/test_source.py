from pathlib import Path

import pytest

from model_export.checkpoints.checkpoint import CheckpointError, read_checkpoint

TIMM = r"mixer_b16_224\.goog_in21k"


@pytest.mark.parametrize(
    ("source", "advice"),
    [
        ("hf-hub:timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("hf_hub:timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("HF:timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("huggingface://timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("hf://timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        ("someone/some-mixer", "write hf:someone/some-mixer$"),
        ("https://huggingface.co/timm/mixer_b16_224.goog_in21k", f"write hf:timm/{TIMM}$"),
        (
            "https://huggingface.co/timm/mixer_b16_224.goog_in21k/resolve/main/model.safetensors",
            f"write hf:timm/{TIMM}$",
        ),
        ("https://example.org/m.npz", "download it, curl -LO https://example.org/m.npz, and name the file"),
        ("s3://bucket/m.npz", "download it and name the file"),
        (
            "gs://mixer_models/gsam/Mixer-S_32.npz",
            "curl -LO https://storage.googleapis.com/mixer_models/gsam/Mixer-S_32.npz",
        ),
        ("file:///data/m.npz", "write the path, /data/m.npz"),
        ("runs/m.npz", "no such file$"),
        ("mixer_b16.safetensors", "no such file$"),
    ],
)
def test_what_to_write_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, advice: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=advice) as caught:
        read_checkpoint(source)
    assert str(caught.value).startswith(f"{source}: ")


def test_a_file_of_such_a_name_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mixer_b16_224").write_bytes(tiny_checkpoint.read_bytes())
    assert read_checkpoint("timm/mixer_b16_224").layout == "timm"
