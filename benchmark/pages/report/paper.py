"""What the paper shows, figure by figure, as registry/paper.toml declares it."""

import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

from benchmark.contract import Positive, checked
from benchmark.declaring.fields import FieldError, from_json
from benchmark.declaring.registry import STOCK
from benchmark.errors import BenchError

FILE = STOCK / "paper.toml"


@checked
class Line:
    """A layout of a figure or table, by the name that it has there; `after` is the layout that it is a change of."""

    layout: str
    name: str = ""
    after: str | None = None


@checked
class StandIn:
    """Rows at laptop scale that stand beside a figure: a local layout against the global one, at every N that was run."""

    title: str
    model: str
    layout: str
    dataset: str
    recipe: str


@checked
class Exhibit:
    """A figure or table of the paper; `name` is what claims call it."""

    name: str
    title: str
    says: str
    suite: str | None = None
    notes: tuple[str, ...] = ()
    caution: str = ""  # what a reader of our stand-in must know at a glance
    doubt: tuple[str, str] | None = None  # (source, metric) of printed values to be held against each other at the largest N
    line: tuple[Line, ...] = ()
    stand_in: tuple[StandIn, ...] = ()

    @property
    def anchor(self) -> str:
        """The name of its place on the page."""
        return self.name.lower().replace(".", "").replace(" ", "-")


@checked
class Paper:
    """The exhibits in their order, and the names and numbers that they share."""

    subsets: tuple[Positive, ...]
    fid_subsets: tuple[Positive, ...]
    models: dict[str, str]
    datasets: dict[str, str]
    own_datasets: dict[str, str]
    note: dict[str, str]
    exhibit: tuple[Exhibit, ...]

    def validate(self) -> None:
        """Refuse two exhibits of one name."""
        names = [one.name for one in self.exhibit]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise FieldError(f"exhibit '{doubled}' is declared twice")

    def named(self, name: str) -> Exhibit:
        """Return the exhibit of that name."""
        return next(one for one in self.exhibit if one.name == name)

    def dataset(self, name: str) -> str:
        """Return a dataset's name as the paper's tables have it."""
        return f"LSUN {self.datasets[name]}" if name.startswith("lsun_") else self.short(name)

    def short(self, name: str) -> str:
        """Return a dataset's name as a picture has room for."""
        return (self.datasets | self.own_datasets)[name]


@cache
def paper(path: Path = FILE) -> Paper:
    """Read the declaration, with the shared notes in their places; raise BenchError where it is damaged."""
    try:
        read = from_json(Paper, tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, TypeError, RecursionError) as problem:
        raise BenchError(f"{path} cannot be read: {problem}") from None

    def said(text: str) -> str:
        return read.note.get(text, text)

    exhibits = (replace(one, notes=tuple(map(said, one.notes)), caution=said(one.caution)) for one in read.exhibit)
    return replace(read, exhibit=tuple(exhibits))
