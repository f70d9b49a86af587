"""Are there enough images to hold some out and to train on the rest: said as soon as their number is known."""

from benchmark.contract import HELD_OUT, Dataset


def held_out(dataset: Dataset) -> int:
    """Return how many images a dataset holds out for testing."""
    return getattr(dataset, "held_out", HELD_OUT)


def least(dataset: Dataset) -> str:
    """Say how many images a dataset needs, and how an entry asks for fewer."""
    number = held_out(dataset)
    fewer = " Fewer are held out by a line `held_out = 50` in its entry." if _chooses(dataset) else ""
    return f"{number} are held out for testing, so at least {number + 1} images are needed.{fewer}"


def too_few(count: int, dataset: Dataset) -> str:
    """Say where a dataset has too few images to train on, and the way out; else nothing."""
    number = held_out(dataset)
    if count > number or getattr(dataset, "held_out_from", None):  # those for testing are apart
        return ""
    fewer = f" Or hold out fewer: `held_out = {max(1, count // 4)}` in its entry, and add it again." if _chooses(dataset) else ""
    return f"It has too few images to train on: {number} are held out for testing, so at least {number + 1} are needed. Add more.{fewer}"


def too_few_for(count: int, dataset: Dataset, size: int) -> str:
    """Say where a subset of that size does not fit beside the held-out images; copies of those may leave the pool smaller still."""
    if (said := too_few(count, dataset)) or getattr(dataset, "held_out_from", None) or size <= count - held_out(dataset):
        return said
    room = count - held_out(dataset)
    return f"`subset={size}` is more than the {room:,} images that are left for training ({count:,} less {held_out(dataset)} held out)."


def _chooses(dataset: Dataset) -> bool:
    return hasattr(dataset, "held_out") and not dataset.embedded
