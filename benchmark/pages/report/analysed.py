"""The published analyses of the ranked records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.declaring.row import Row
from benchmark.pages.comparisons import Numbers
from benchmark.recording import analyses
from benchmark.recording.record import METRIC_VERSION, Record


@dataclass(frozen=True)
class Analysed:
    """A record with its published analyses, by name, and the folder that holds their pictures."""

    record: Record
    found: dict[str, analyses.Analysis]
    folder: Path


class Analyses:
    """The published analyses of the ranked records."""

    def __init__(self, records: Sequence[Record], leaderboard: Path) -> None:
        ranked = [one for one in records if one.ranked and one.metric_version == METRIC_VERSION]
        rows = [Analysed(one, analyses.published(leaderboard, one), analyses.published_folder(leaderboard, one.row)) for one in ranked]
        self.rows = [one for one in rows if one.found]

    def __len__(self) -> int:
        return sum(len(one.found) for one in self.rows)

    def numbers(self) -> Numbers:
        """Return every number by the record's id, as claims name it: "<what>.<number>"."""
        return {
            one.record.id: {f"{what}.{name}": value for what, analysis in one.found.items() for name, value in analysis.numbers.items()}
            for one in self.rows
        }

    def of(self, row: Row) -> Analysed | None:
        """Return the analyses of one row."""
        return next((one for one in self.rows if one.record.row == row), None)

    def having(self, name: str) -> Iterator[tuple[Record, float]]:
        """Yield the records of which a number was taken, and the number."""
        numbers = self.numbers()
        for one in self.rows:
            if name in numbers[one.record.id]:
                yield one.record, numbers[one.record.id][name]
