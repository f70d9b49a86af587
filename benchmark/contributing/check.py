"""The contract of an entry and of a record: what the tests hold every one to, and `bench check` a stranger's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from benchmark.contributing import check_record
from benchmark.contributing.check_entry import rules as entry_rules
from benchmark.contributing.check_entry import rules_of_text
from benchmark.contributing.check_record import Rules
from benchmark.declaring import registry
from benchmark.declaring.fields import FieldError
from benchmark.errors import BenchError, NotRun, UsageError, raised, unknown
from benchmark.files import home as default_home


class Outcome(NamedTuple):
    """One rule, held to: `note` is what was found, what is wrong, or why it was not run."""

    rule: str
    outcome: Literal["ok", "problem", "not run"]
    note: str


class Verdict(NamedTuple):
    """What the rules say of a file; the name of an entry is its file's."""

    path: Path
    outcomes: tuple[Outcome, ...]

    @property
    def problem(self) -> str | None:
        """What is wrong first, or None."""
        return next((outcome.note for outcome in self.outcomes if outcome.outcome == "problem"), None)


def check(
    paths: list[Path], search: tuple[Path, ...], *, light: bool = False, compiled: bool = False, home: Path | None = None
) -> list[Verdict]:
    """Hold every record (.json) and entry (.gin) among `paths`, and in the folders among them, to its contract.

    Of a folder, the entries under its axis folders and the records under its records folder are checked, and nothing else.
    `light` leaves out what needs a network's weights; `compiled` tries torch.compile too; `home` holds the packed images.
    """
    where = home or default_home()
    known = check_record.Known(search, where)
    return [
        Verdict(path, tuple(outcomes(path, records, search, where, light=light, compiled=compiled, known=known)))
        for path, records in walk(paths)
    ]


def outcomes(
    path: Path,
    records: Path | None,
    search: tuple[Path, ...],
    home: Path,
    *,
    light: bool = False,
    compiled: bool = False,
    known: check_record.Known | None = None,
) -> Iterator[Outcome]:
    """Hold one file to its contract, rule by rule; `records` is the folder that a record was found under."""
    entry = path.suffix == ".gin"
    yield from _outcomes(
        entry_rules(path, search, light, compiled, home)
        if entry
        else check_record.rules(path, records, known or check_record.Known(search, home))
    )


def look(paths: list[Path], search: tuple[Path, ...], home: Path) -> list[Verdict]:
    """Say what is wrong with entries as far as their text and that of their modules tell: nothing of theirs is run."""
    known = check_record.Known(search, home)
    return [
        Verdict(
            path, tuple(_outcomes(rules_of_text(path)) if path.suffix == ".gin" else outcomes(path, records, search, home, known=known))
        )
        for path, records in walk(paths)
    ]


def check_entry(path: Path, search: tuple[Path, ...]) -> None:
    """Raise BenchError where an entry breaks a rule of its axis that needs no weights."""
    (verdict,) = check([path], search, light=True)
    if verdict.problem:
        raise BenchError(verdict.problem)


def files(words: list[str], search: tuple[Path, ...]) -> list[Path]:
    """Return the files and folders that words name: an entry of any axis by its name, or a path."""
    found: list[Path] = []
    for word in words:
        entries = [file.path for axis in registry.FOLDERS for name, file in registry.entries(axis, search).items() if name == word]
        if not entries and not Path(word).exists() and Path(word).suffix not in (".gin", ".json") and "/" not in word:
            every = {name for axis in registry.FOLDERS for name in registry.entries(axis, search)}
            raise unknown("entry", word, every, "An entry of your own needs its folder, `registry=[DIR]`; a file needs its path.")
        found += entries or [Path(word)]
    return found


def _outcomes(rules: Rules) -> Iterator[Outcome]:
    for name, rule in rules:
        try:
            yield Outcome(name, "ok", rule())
        except NotRun as reason:
            yield Outcome(name, "not run", str(reason))
        except (BenchError, FieldError) as problem:
            yield Outcome(name, "problem", str(problem))
        except KeyboardInterrupt:
            raise
        except BaseException as problem:  # an entry's own code may raise anything; the file is named, the other rules are run
            yield Outcome(name, "problem", raised(problem))


def walk(paths: list[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield every file to check, and the folder of records that it was found under."""
    for path in paths:
        if path.is_dir():
            yield from _in_folder(path)
        elif path.suffix in (".json", ".gin") and path.exists():
            yield path, None
        elif path.suffix in (".json", ".gin"):
            raise UsageError(f"There is no file {path}.")
        else:
            raise UsageError(f"{path} is neither a record (.json), an entry (.gin) nor a folder of them.")


def _in_folder(path: Path) -> Iterator[tuple[Path, Path | None]]:
    """Yield the records and entries of a folder: a registry, a home, a checkout, an axis folder, or records or a part of them.

    A folder that is none of these is taken for one of records, which `--records` may call what it likes.
    """
    axes = list(registry.FOLDERS.values())
    entries = [path] if path.resolve().name in axes else [base / axis for base in (path, path / "registry") for axis in axes]
    records = [base / "records" for base in (path, path / "leaderboard")]
    if not any(folder.is_dir() for folder in (*entries, *records)):
        records = [path]
    for folder in records:
        root = next((up for up in (folder, *folder.resolve().parents[:2]) if up.resolve().name == "records"), folder)
        base = folder if root == folder else folder.resolve()
        yield from ((file, root) for file in sorted(base.rglob("[!.]*.json")))
    for folder in entries:
        yield from ((file, None) for file in sorted(folder.glob("[!.]*.gin")))
