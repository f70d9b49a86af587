"""Tables in Markdown, of every page in one way."""

from collections.abc import Iterable, Sequence


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool] | None = None) -> str:
    """Return a Markdown table of cells that are Markdown already; `right` says which columns are numbers."""
    rule = ["---:" if number else "---" for number in right or [False] * len(titles)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [titles, rule, *rows])
