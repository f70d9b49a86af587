"""How results are printed: tables for people, JSON for programs, always on stdout."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from benchmark.commands.words import typed
from benchmark.recording.said import one_line, scrubbed_json, visible


def say(text: str = "", *, error: bool = False) -> None:
    """Print one thing, on stdout unless it is an error: the only door to the terminal, which lets no foreign control through."""
    print(visible(typed(text)), file=sys.stderr if error else sys.stdout, flush=True)


def duration(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def near(path: Path) -> str:
    """Return a path relative to the working directory where it lies below it."""
    return one_line(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path))


def print_json(value: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(scrubbed_json(value), indent=1, allow_nan=False))


def print_table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    """Print a table; its text is escaped, whatever it holds."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(visible(title)), title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(escape(visible(column)), overflow="fold", no_wrap=column == columns[0])
    for row in rows:
        table.add_row(*(escape(visible(str(cell))) for cell in row))
    print_rich(table)
    say()


def print_rich(*renderables: Any) -> None:
    """Print rich renderables, and sentences as they are typed; 160 columns where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for renderable in renderables:
        console.print(visible(typed(renderable)) if isinstance(renderable, str) else renderable)
