"""Records to the leaderboard: statistics, tables, claims, pictures, the page, and its short form for the terminal."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import BenchError, UsageError
from benchmark.files import write_text
from benchmark.pages import plots, samples, terminal
from benchmark.pages.document import document
from benchmark.pages.kept import Kept
from benchmark.pages.page import write_page
from benchmark.pages.short import Beside, write_short
from benchmark.recording import analyses, marks, style
from benchmark.recording import published as reported
from benchmark.recording.record import Record, read_all

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["PUBLISHED", "as_json", "build", "stale", "summary"]

PAGE, TABLES, RULES = "README.md", "tables.md", "RULES.md"  # the short page, the whole tables, the rules of the board
PAPER = Path("paper", PAGE)  # what `bench report paper` writes
PUBLISHED = Path("leaderboard/published")
MARK = "by `bench leaderboard`; do not edit it"  # what every page of it says in its first lines
MEND = "Make it again, `benchmark.pages.leaderboard.build(...)`, and commit what that writes."


def build(records_dir: Path, out: Path, published: Path, records: Sequence[Record] | None = None, kept: Path | None = None) -> list[Path]:
    """Write both pages and their pictures under `out`, remove pictures that no longer belong, return what was written.

    `records` are those of the folder, where they are read already. Pictures that the folder `kept` holds are not drawn again.
    """
    pages, pictures = _pages(records_dir, out, published, records)
    _refuse_foreign(pages)
    _refuse_pictures(out / picture.path for picture in pictures)
    before = Kept(kept)
    drawn = {out / picture.path: before.svg(picture, plots.draw) for picture in pictures}
    for path, text in (drawn | pages).items():
        write_text(path, text)
    for path in _pictures_in(out) - drawn.keys():
        _remove(path, out)
    return [*pages, *drawn]


def stale(records_dir: Path, out: Path, published: Path) -> list[str]:
    """Say what of the pages is not what the records give; empty where all of it is.

    A page must match letter by letter; a picture by the digest of its numbers, since another matplotlib or another
    font moves its pixels.
    """
    pages, pictures = _pages(records_dir, out, published)
    problems = [problem for path, text in pages.items() if (problem := _stale_page(path, text))]
    for picture in pictures:
        path = out / picture.path
        if not path.is_file():
            problems.append(f"{path} is missing. {MEND}")
        elif style.digest_in(path) != picture.digest:
            problems.append(f"{path} shows other numbers than the records give. {MEND}")
    belonging = {out / picture.path for picture in pictures}
    return problems + [f"{path} belongs to no table any more. {MEND}" for path in sorted(_pictures_in(out) - belonging)]


def summary(
    records_dir: Path, columns: Sequence[str] = (), width: int = terminal.WIDE, records: Sequence[Record] | None = None
) -> "list[RenderableType]":
    """Return tables in short, claims with their paired numbers, and what is not claimed; to be printed one by one.

    `columns` names numbers of the analyses beside the records, "<what>.<number>".
    """
    records = read(records_dir) if records is None else records
    return terminal.render(
        records, columns, _analysed(records_dir.parent, records, columns), width, marks.read(records_dir.parent, records)
    )


def as_json(records_dir: Path, columns: Sequence[str] = (), records: Sequence[Record] | None = None) -> dict[str, Any]:
    """Return the tables and the claims as plain JSON, with the numbers of analyses that `columns` names."""
    records = read(records_dir) if records is None else records
    return document(records, columns, _analysed(records_dir.parent, records, columns), marks.read(records_dir.parent, records))


def _analysed(folder: Path, records: Sequence[Record], columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the numbers of the analyses by record; raise UsageError where no record has a column that is asked for."""
    found = {record.id: analyses.numbers(folder, record) for record in records}
    known = {name for numbers in found.values() for name in numbers}
    for column in columns:
        if column not in known:
            raise _no_column(column, known, folder)
    return found


def _no_column(column: str, known: set[str], folder: Path) -> UsageError:
    near = difflib.get_close_matches(column, sorted(known), n=4, cutoff=0.5)
    if not known:
        exists = "No analysis is published: `benchmark.analysis.study.publish(...)` makes some."
    else:
        kinds = ", ".join(sorted({name.split(".")[0] for name in known}))
        exists = (f"Did you mean {' or '.join(near)}? " if near else "") + (
            f"There are {len(known)} numbers of {kinds}; the JSON files in {folder / analyses.FOLDER} name them."
        )
    return UsageError(f"No published analysis of these records gives '{column}'. {exists}")


def _pages(
    records_dir: Path, out: Path, published: Path, records: Sequence[Record] | None = None
) -> tuple[dict[Path, str], list[plots.Picture]]:
    """Return the text of the short page and of the whole tables by their paths, and the pictures of both."""
    records = read(records_dir) if records is None else records
    paper = PAPER.as_posix() if (out / PAPER).is_file() else ""
    rules = RULES if (out / RULES).is_file() else ""
    numbers, marked = _analysed(records_dir.parent, records, ()), marks.read(records_dir.parent, records)
    tables, pictures = write_page(records, reported.load(published), Path(os.path.relpath(records_dir, out)), numbers, marked)
    grids = samples.section(records, out)
    short = write_short(records, pictures, Beside(TABLES, paper, rules), numbers, marked)
    return {out / PAGE: short, out / TABLES: tables + (f"\n{grids}\n" if grids else "")}, pictures


def read(records_dir: Path) -> Sequence[Record]:
    """Return the records that have a row of a table, in the order of their paths."""
    if records_dir.exists() and not records_dir.is_dir():
        raise BenchError(f"The records are expected in a folder, but {records_dir} is a file.")
    return [record for record in read_all(records_dir) if not record.half]  # a half is no row of a table: `bench compare` reads it


def _stale_page(page: Path, text: str) -> str | None:
    try:
        written = page.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"{page} is missing. {MEND}"
    except (OSError, UnicodeDecodeError) as problem:
        return f"{page} cannot be read: {problem}. {MEND}"
    if written == text:
        return None
    pairs = zip([*written.splitlines(), None], [*text.splitlines(), None], strict=False)
    line = next((number for number, (there, here) in enumerate(pairs, start=1) if there != here), 1)
    return f"{page} is not what the records give, from line {line} on. {MEND}"


def _refuse_foreign(pages: Iterable[Path]) -> None:
    """Refuse to write over a page that was not made from records."""
    for path in pages:
        try:
            there = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue
        except OSError as problem:
            raise BenchError(f"{path} cannot be read: {problem.strerror}.") from None
        if MARK not in there[:1000]:
            raise UsageError(f"{path} is not a page of this leaderboard, and would be overwritten. Give another folder: `out=DIR`.")


def _refuse_pictures(paths: Iterable[Path]) -> None:
    if foreign := [path for path in paths if path.exists() and not _own(path)]:
        raise UsageError(f"{foreign[0]} is not a picture of this leaderboard, and would be overwritten. Give another folder: `out=DIR`.")


def _pictures_in(out: Path) -> set[Path]:
    """Return the pictures that a leaderboard made: by their mark, the digest of their numbers."""
    return {path for path in (out / "figures").rglob("*.svg") if _own(path)}


def _own(picture: Path) -> bool:
    return (style.digest_in(picture) or "").startswith("sha256:")


def _remove(picture: Path, out: Path) -> None:
    """Remove a picture and the folders that it leaves empty."""
    try:
        picture.unlink()
        for folder in picture.parents:
            if folder == out or any(folder.iterdir()):
                break
            folder.rmdir()
    except OSError as problem:
        raise BenchError(f"{picture} belongs to no table any more and cannot be removed: {problem.strerror}. Remove it by hand.") from None
