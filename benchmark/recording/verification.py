"""What was verified of a record: four rising levels, kept beside the records. Schema version 1."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from benchmark.contract import FieldError, checked
from benchmark.declaring.fields import from_json, to_json
from benchmark.errors import BenchError
from benchmark.files import write_text
from benchmark.recording import record
from benchmark.recording.levels import LEVELS, LevelName
from benchmark.recording.record import Environment, Record

FOLDER = "verifications"


@checked
class Level:
    """One level, and what was found; `failed` says what disagrees, `not run` why it was not tried."""

    name: LevelName
    outcome: Literal["ok", "failed", "not run"]
    note: str


@checked
class Verification:
    """The levels of one record, by the digest of the record: another record of the same row is not verified by it."""

    schema: Literal[1]
    record_sha256: str
    levels: tuple[Level, ...]
    environment: Environment
    created: str

    def validate(self) -> None:
        """Refuse levels that are not all four, in order."""
        if tuple(level.name for level in self.levels) != LEVELS:
            raise FieldError(f"levels must be {', '.join(LEVELS)}, in this order")

    @property
    def reached(self) -> LevelName | None:
        """The highest level that holds, None where one does not: a row trained again was scored again in that."""
        if self.failed:
            return None
        return next((level.name for level in reversed(self.levels) if level.outcome == "ok"), None)

    @property
    def failed(self) -> bool:
        """Whether a level that was tried does not hold."""
        return any(level.outcome == "failed" for level in self.levels)


def digest(of: Record) -> str:
    """Return the sha256 of a record's canonical JSON."""
    return hashlib.sha256(json.dumps(to_json(of), sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def path_of(leaderboard: Path, of: Record) -> Path:
    """Return where the verification of a record lies: the record's own key."""
    return record.path_of(leaderboard / FOLDER, of.row, of.half)


def of_record(leaderboard: Path, of: Record) -> Verification | None:
    """Return what was verified of this very record, or None."""
    path = path_of(leaderboard, of)
    if not path.is_file():
        return None
    found = read(path)
    return found if found.record_sha256 == digest(of) else None


def read(path: Path) -> Verification:
    """Read a verification; raise BenchError naming the file and the field."""
    try:
        return from_json(Verification, json.loads(path.read_text(encoding="utf-8-sig")))
    except (OSError, ValueError, RecursionError) as problem:
        raise BenchError(f"The verification {path} is not valid: {problem}. Remove it and verify the row again.") from None


def write(verification: Verification, path: Path) -> None:
    """Write a verification atomically."""
    write_text(path, json.dumps(to_json(verification), indent=1) + "\n")
