"""How results are printed: tables for people, JSON for programs, always on stdout."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, cast

from benchmark.commands.words import typed
from benchmark.recording.said import one_line, scrubbed_json, visible


def say(text: str = "", *, error: bool = False) -> None:
    """Print one thing, on stdout unless it is an error: the only door to the terminal, which lets no foreign control through."""
    print(visible(typed(text)), file=sys.stderr if error else sys.stdout, flush=True)


def near(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    return one_line(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    where = sys.stdout.results if isinstance(sys.stdout, _Aside) else sys.stdout
    print(json.dumps(scrubbed_json(value), indent=1, allow_nan=False), file=where, flush=True)


class _Aside:
    """Stands for stdout where a program reads the results: what is printed here, by whoever it is, goes to stderr."""

    def __init__(self, results: TextIO) -> None:
        self.results = results

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)


@contextmanager
def results_alone(wanted: bool) -> Iterator[None]:
    """Keep stdout for what `print_json` prints, if wanted: a module that prints corrupts no result."""
    with redirect_stdout(cast(TextIO, _Aside(sys.stdout))) if wanted else nullcontext():
        yield


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print a table; its text is escaped, whatever it holds, and broken between words only.

    On a terminal that is too narrow for it every row becomes a short list instead: nothing is cut.
    """
    from rich.markup import escape
    from rich.table import Table

    widths = _widths([columns, *rows])
    if widths is None:
        return _print_list(title, columns, rows)
    table = Table(title=escape(visible(title)), title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column, width in zip(columns, widths, strict=True):
        table.add_column(escape(visible(column)), width=width)
    for row in rows:
        table.add_row(*(escape(visible(str(cell))) for cell in row))
    print_rich(table)
    say()
    return None


def _widths(lines: list[tuple[Any, ...]]) -> list[int] | None:
    """Return the widths of a table's columns, none below its longest word, the first whole; None where they do not fit."""
    cells = [[visible(str(line[place])) for line in lines] for place in range(len(lines[0]))]
    whole = [max(len(part) for cell in column for part in cell.split("\n")) for column in cells]
    least = [max([len(word) for cell in column for word in cell.split()], default=0) for column in cells]
    least[0] = whole[0]
    spare = terminal_width() - sum(least) - 2 * len(least)
    if spare < 0:
        return None
    wanted = [full - width for full, width in zip(whole, least, strict=True)]
    return [width + min(want, spare * want // (sum(wanted) or 1)) for width, want in zip(least, wanted, strict=True)]


def _print_list(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print every row as its first cell, and below it the others with their names."""
    say(title)
    for row in rows:
        first, *others = (str(cell) for cell in row)
        say(first)
        said = [f"{name} {cell}" for name, cell in zip(columns[1:], others, strict=True) if cell]
        say(textwrap.fill("   ".join(said), terminal_width(), initial_indent="  ", subsequent_indent="  ", break_long_words=False))
    say()


def terminal_width() -> int:
    """Return the columns of the terminal, 160 where stdout is none."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 160


def print_rich(*renderables: Any) -> None:
    """Print rich renderables, and sentences as they are typed; 160 columns where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, width=terminal_width())
    for renderable in renderables:
        console.print(visible(typed(renderable)) if isinstance(renderable, str) else renderable)
