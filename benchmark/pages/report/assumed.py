"""What the paper's text leaves open, and what the entries of its suites take instead: from their own comment lines."""

from collections import defaultdict
from collections.abc import Iterable

from benchmark.declaring import registry
from benchmark.declaring.entries import load_suite
from benchmark.declaring.spec import AXES
from benchmark.pages.report.paper import paper
from benchmark.pages.text import escaped


def assumed() -> str:
    """Return the section: one line for each choice, under the names of the entries that make it."""
    suites = sorted({exhibit.suite for exhibit in paper().exhibit if exhibit.suite})
    lines = [f"- {axis} {escaped(names)}: **{escaped(field)}**: {escaped(why)}" for axis, names, field, why in choices(suites)]
    return (
        "## What the text leaves open\n\nThe rows at the paper's scale rest on these choices of this project; each is marked as assumed "
        "in its entry and in every record.\n\n" + "\n".join(lines)
    )


def choices(suites: Iterable[str]) -> list[tuple[str, str, str, str]]:
    """Return what the suites and the entries of their rows assume: axis, names, field, and why."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for axis, name in _entries(suites):
        for field, why in registry.find(axis, name).assumed.items():
            found[axis, field, why].append(name)
    return [(axis, ", ".join(names), field, why) for (axis, field, why), names in found.items()]


def _entries(suites: Iterable[str]) -> list[tuple[str, str]]:
    rows = [row for suite in suites for row in load_suite(suite).rows()]
    entries = [(axis, name) for axis in AXES for name in sorted({getattr(row, axis) for row in rows})]
    return [*entries, *(("suite", suite) for suite in suites)]
