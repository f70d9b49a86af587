"""What the shell completes: the names of entries, suites and runs. Nothing here is imported unless a shell asks."""

import argparse
from collections.abc import Iterable
from typing import NamedTuple

import argcomplete

from benchmark.declaring import registry
from benchmark.errors import BenchError
from benchmark.files import home

AXES = ("model", "layout", "dataset", "recipe")
SUITES = ("suite", "all_of", "equivalent")  # where a suite is named
RUNS = ("run", "runs")
DATA = (
    "bench data where",
    "bench data add",
    "bench data pack",
    "bench data show",
    "bench data verify",
    "bench data preview",
    "bench data rm",
)  # whose NAME is a dataset


class Names(NamedTuple):
    """The names of entries on some axes, those of the folders that --registry has named so far included."""

    axes: tuple[str, ...]

    def __call__(self, *, prefix: str, parsed_args: argparse.Namespace, **said: object) -> list[str]:
        """Return the names that begin as what is typed does."""
        try:
            search = registry.roots(getattr(parsed_args, "registry", None) or [])
            return _beginning(prefix, (name for axis in self.axes for name in registry.entries(axis, search)))
        except BenchError as problem:
            argcomplete.warn(str(problem))
            return []


def run_ids(*, prefix: str, **said: object) -> list[str]:
    """Return the ids of the runs that begin as what is typed does."""
    return _beginning(prefix, (path.parent.name for path in (home() / "runs").glob("*/spec.json")))


def complete(top: argparse.ArgumentParser) -> None:
    """Answer the shell that asked, and end the process; return where none did."""
    _attach(top)
    argcomplete.autocomplete(top, always_complete_options="long")


def _attach(parser: argparse.ArgumentParser) -> None:
    """Give every argument that takes a name its completer."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            for inner in action.choices.values():
                _attach(inner)
        elif completer := _completer(action.dest, parser.prog):
            action.completer = completer  # type: ignore[attr-defined]


def _completer(name: str, command: str) -> object:
    if name in AXES:
        return Names((name,))
    if name in SUITES:
        return Names(("suite",))
    if name == "name" and command in DATA:
        return Names(("dataset",))
    if name == "files" and command == "bench check":
        return Names(tuple(registry.FOLDERS))
    return run_ids if name in RUNS else None


def _beginning(prefix: str, names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if name.startswith(prefix))
