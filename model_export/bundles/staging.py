"""A folder that appears complete or not at all."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place if the block succeeds and vanishes if it does not."""
    made = [parent for parent in (target.parent, *target.parent.parents) if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        bundle = staging / "new"
        bundle.mkdir()
        yield bundle
        if target.exists():
            target.rename(staging / "old")
        bundle.rename(target)
    except BaseException:
        if (staging / "old").exists():  # interrupted between the two renames
            (staging / "old").rename(target)
        raise
    finally:
        shutil.rmtree(staging)
        for parent in made:  # innermost first; those that now hold something stay
            if not any(parent.iterdir()):
                parent.rmdir()
