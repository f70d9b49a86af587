"""One run, by name: what a suite declares, what a record is filed under."""

from typing import NamedTuple


class Row(NamedTuple):
    """One run of a suite, by name; the fields are the flags of `bench run`."""

    model: str
    layout: str
    dataset: str
    subset: int
    seed: int
    recipe: str

    def flags(self) -> list[str]:
        """Return the row as command-line flags of `bench run`."""
        return [word for name, value in self._asdict().items() for word in (f"--{name}", str(value))]
