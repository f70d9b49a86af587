"""What stands behind a row beside its numbers: how far it was verified, and who submitted it."""

from collections.abc import Sequence
from pathlib import Path

from benchmark.recording import submission, verification
from benchmark.recording.record import Record
from benchmark.recording.submission import Submission
from benchmark.recording.verification import LEVELS, Verification


class Standing:
    """The verifications beside the records, and the submissions that rows came from."""

    def __init__(self, leaderboard: Path, submissions: Path) -> None:
        self._leaderboard = leaderboard
        self._submitted = {row.id: one for one in submission.read_all(submissions) for row in one.rows}

    def verification(self, record: Record) -> Verification | None:
        """Return what was verified of a record, None where nothing was."""
        return verification.of_record(self._leaderboard, record)

    def badges(self, runs: Sequence[Record]) -> list[str]:
        """Return the badges of a row: the lowest level of its records first."""
        levels = [found.reached if (found := self.verification(run)) else None for run in runs]
        return [min((level or "reported" for level in levels), key=LEVELS.index)]

    def who(self, runs: Sequence[Record]) -> Submission | None:
        """Return the submission that a row came in by, None where it is the project's own."""
        return next((self._submitted[run.id] for run in runs if run.id in self._submitted), None)
