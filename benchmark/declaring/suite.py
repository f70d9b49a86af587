"""A suite: rows that belong to one table. Configured by registry/suites/*.gin."""

from collections import Counter
from collections.abc import Iterator
from itertools import product

from benchmark.contract import Count, FieldError, Positive, checked, entry
from benchmark.declaring.row import Row


@checked
class Block:
    """The product of what it lists: every model under every layout on every dataset, subset size and seed.

    `recipe` replaces the suite's for the rows of this block.
    """

    models: tuple[str, ...]
    layouts: tuple[str, ...]
    datasets: tuple[str, ...]
    subsets: tuple[Positive, ...]
    seeds: tuple[Count, ...]
    recipe: str | None = None


@entry(kind="suite")
class Suite:
    """Blocks of rows under one recipe, unless a block names another."""

    recipe: str
    blocks: tuple[Block, ...]

    def validate(self) -> None:
        """Refuse a row that is declared twice."""
        counts = Counter(self.rows())
        if doubled := next((row for row, count in counts.items() if count > 1), None):
            raise FieldError(f"blocks declare a row twice: {doubled.title}, recipe {doubled.recipe}")

    def rows(self) -> Iterator[Row]:
        """Yield the rows, block by block, seeds outermost, so that paired rows finish together."""
        for block in self.blocks:
            for seed, subset, dataset, model, layout in product(block.seeds, block.subsets, block.datasets, block.models, block.layouts):
                yield Row(model, layout, dataset, subset, seed, block.recipe or self.recipe)
