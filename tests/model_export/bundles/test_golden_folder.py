from pathlib import Path

from model_export.__main__ import main
from service.bundles.bundle import load_bundle
from tests.model_export.datasets.images import write_images


def test_golden_images_of_equal_names_are_all_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    paths = [f"{name}/{number}.png" for name in ("cat", "dog", "cow") for number in range(3)]
    write_images(tmp_path / "golden", *paths, ".ipynb_checkpoints/0.png", "cat/notes.txt")
    repository = str(tmp_path / "models")
    main(
        [
            "export",
            str(tiny_checkpoint),
            "--name",
            "m",
            "--golden",
            str(tmp_path / "golden"),
            "--repository",
            repository,
        ]
    )
    bundle = load_bundle(tmp_path / "models" / "m" / "1")
    assert bundle.manifest.golden.images == [f"golden/{path}" for path in sorted(paths)]
    images, outputs = bundle.golden()
    assert len(images) == len(outputs["logits"]) == 9
    main(["verify", str(tmp_path / "models" / "m" / "1")])
