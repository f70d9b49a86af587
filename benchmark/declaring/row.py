"""One run, by name: what a suite declares, what a record is filed under."""

from typing import NamedTuple


class Row(NamedTuple):
    """One run, by name."""

    model: str
    layout: str
    dataset: str
    subset: int
    seed: int
    recipe: str

    @property
    def title(self) -> str:
        """The row in words, but for its recipe."""
        return f"{self.model} {self.layout} on {self.dataset}, N={self.subset}, seed {self.seed}"
