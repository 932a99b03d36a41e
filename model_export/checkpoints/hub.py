"""`hf:OWNER/REPO[@REVISION]` -> a folder on disk, through huggingface_hub and its cache."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from model_export.checkpoints.hub_folder import CONFIG, WEIGHTS, read_config, weights_files
from model_export.checkpoints.shards import INDEX, shards
from model_export.checkpoints.source import HUB
from model_export.checkpoints.tensor_file import CheckpointError
from service.bundles.bundle import sha256_of


def download(source: str) -> Path:
    """The folder that holds the repository's config.json and weights; nothing is fetched that the cache holds.

    HF_HOME, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to huggingface_hub. Raises CheckpointError if the
    repository cannot be had, a file is not what the Hub says it is, or config.json already says that it is not served.
    """
    match = re.fullmatch(rf"{HUB}([\w.-]+/[\w.-]+)(?:@(\S+))?", source)
    if not match:
        raise CheckpointError("is not of the form hf:OWNER/REPO or hf:OWNER/REPO@REVISION")
    repository, revision = match.groups()
    folder = _snapshot(repository, revision, [CONFIG])
    read_config(folder)  # refuses before the weights are fetched
    for weights in WEIGHTS:  # one after the other: most repositories hold the same weights twice
        folder = _snapshot(repository, revision, [CONFIG, weights])
        if files := weights_files(folder):
            parts = [part for file in files if file.name.endswith(INDEX) for part in shards(file)]
            if parts:
                folder = _snapshot(repository, revision, [CONFIG, weights, *parts])
            for file in [*files, *(folder / part for part in parts)]:
                _verify(file)
            break
    return folder


def _snapshot(repository: str, revision: str | None, patterns: list[str]) -> Path:
    def snapshot(cached: bool) -> Path:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns, local_files_only=cached))

    try:
        return snapshot(cached=False)
    except GatedRepoError:
        raise CheckpointError("its owner grants access one by one; ask there, then set HF_TOKEN") from None
    except RepositoryNotFoundError:
        raise CheckpointError("no such repository on the Hub, or it is private and HF_TOKEN is not set") from None
    except RevisionNotFoundError:
        raise CheckpointError("the repository has no such revision") from None
    except Exception as error:  # proxies, name resolution, time-outs, full disks: a library's worth of classes
        try:
            return snapshot(cached=True)
        except Exception:
            raise CheckpointError(
                f"not in the local cache, and the Hub cannot be reached ({type(error.__cause__ or error).__name__})"
            ) from None


def _verify(file: Path) -> None:
    """The cache names a large file by the sha256 that the Hub gives for it."""
    if not file.exists():
        raise CheckpointError(f"{file.name} is not in the repository")
    promised = file.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", promised) and sha256_of(file) != promised:
        raise CheckpointError(f"{file.name} in the cache is damaged: its sha256 is not the Hub's; delete it")
