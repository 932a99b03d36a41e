"""Every image decoded once, before hours of training meet the one that cannot be."""

from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

from model_export.datasets.dataset import Data, DataError, Dataset
from model_export.datasets.split import Subset
from service.host import allowed_cores

_NAMED = 5  # unreadable images in a message


def without_unreadable(data: Data, most: int) -> Data:
    """The data without its unreadable images; raises DataError naming them if there are more than `most`."""
    readable: dict[str, list[int]] = {}
    unreadable: list[str] = []
    with (
        ThreadPoolExecutor(max(1, round(allowed_cores()))) as pool,
        tqdm(total=sum(map(len, data.parts.values())), desc="check images", unit="img") as progress,
    ):
        for part, dataset in data.parts.items():
            readable[part] = []
            for start in range(0, len(dataset), 1000):
                indices = range(start, min(start + 1000, len(dataset)))
                for index, problem in zip(indices, pool.map(lambda i, d=dataset: _problem(d, i), indices), strict=True):
                    if problem is None:
                        readable[part].append(index)
                    else:
                        unreadable.append(problem)
                progress.update(len(indices))
    if len(unreadable) > most:
        named = "; ".join(unreadable[:_NAMED]) + ("; ..." if len(unreadable) > _NAMED else "")
        raise DataError(
            f"{len(unreadable):,} images cannot be read: {named}. Repair them, or pass --skip-unreadable "
            f"{len(unreadable)} to leave them out"
        )
    if not unreadable:
        return data
    parts: dict[str, Dataset] = {part: Subset(data.parts[part], tuple(indices)) for part, indices in readable.items()}
    return Data(data.layout, parts, (*data.notes, f"{len(unreadable):,} unreadable images are left out"))


def _problem(data: Dataset, index: int) -> str | None:
    try:
        data.load(index)
    except DataError as error:
        return str(error)
    return None
