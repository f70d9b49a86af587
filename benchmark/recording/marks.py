"""Rows that are doubted or taken back, as leaderboard/marks.toml names them: kept, marked, and shown with the reason."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from benchmark.contract import FieldError, Range, checked
from benchmark.declaring.fields import from_json
from benchmark.errors import BenchError
from benchmark.recording.record import Record

FILE = "marks.toml"  # beside the records
Key = tuple[str, str, str, str, int]  # recipe, dataset, model, layout, N


@checked
class Mark:
    """What is said of one row, all its seeds: `contested` until it is settled; `withdrawn` takes its rank and its place in claims."""

    recipe: str
    dataset: str
    model: str
    layout: str
    subset: Annotated[int, Range(least=1)]
    state: Literal["contested", "withdrawn"]
    reason: str
    day: str

    def validate(self) -> None:
        """Refuse a mark that says nothing."""
        for field in ("reason", "day"):
            if not getattr(self, field).strip():
                raise FieldError(f"{field} is empty")

    @property
    def key(self) -> Key:
        """The row."""
        return self.recipe, self.dataset, self.model, self.layout, self.subset


@checked
class _File:
    mark: tuple[Mark, ...] = ()


class Marks:
    """The marks of a board."""

    def __init__(self, marks: Sequence[Mark] = ()) -> None:
        self._of: Mapping[Key, Mark] = {mark.key: mark for mark in marks}

    def of(self, record: Record) -> Mark | None:
        """Return the mark of a record's row, None where it has none."""
        return self._of.get(_key(record))

    def withdrawn(self, record: Record) -> bool:
        """Whether the row of a record is withdrawn: no rank, no comparison and no claim rests on it."""
        mark = self.of(record)
        return mark is not None and mark.state == "withdrawn"

    def standing(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that are not withdrawn."""
        return [record for record in records if not self.withdrawn(record)]


NONE = Marks()


def read(leaderboard: Path, records: Sequence[Record]) -> Marks:
    """Read the marks beside the records; raise BenchError where one cannot be read, or names no row of these records."""
    path = leaderboard / FILE
    if not path.exists():
        return NONE
    try:
        found = from_json(_File, tomllib.loads(path.read_text(encoding="utf-8-sig"))).mark
        known = {_key(record) for record in records}
        for mark in found:
            if mark.key not in known:
                raise FieldError(f"no record is of {mark.model} {mark.layout} on {mark.dataset}, N = {mark.subset}, recipe {mark.recipe}")
        if twice := [mark for place, mark in enumerate(found) if mark.key in {other.key for other in found[:place]}]:
            raise FieldError(f"{twice[0].model} {twice[0].layout} on {twice[0].dataset}, N = {twice[0].subset} is marked twice")
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(f"The marks {path} are not valid: {problem}.") from None
    return Marks(found)


def _key(record: Record) -> Key:
    model, layout, dataset, subset, _, recipe = record.row
    return recipe, dataset, model, layout, subset
