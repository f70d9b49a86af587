"""`bench leaderboard`: the page from the records."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, json_flag, records_flag
from benchmark.commands.output import near, print_json, print_rich, say, terminal_width
from benchmark.commands.place import home, records_of
from benchmark.errors import UsageError
from benchmark.files import PUBLISHED


def add(verbs: Any) -> None:
    """Add `bench leaderboard`."""
    parser = command(
        verbs,
        "leaderboard",
        leaderboard,
        "make the page and its plots from the records, and print it",
        "bench leaderboard",
        "bench leaderboard --check",
        "bench leaderboard --records runs/demo/records",
        "bench leaderboard --errors runs",
        "bench leaderboard --columns jacobian.harmonicity_t200,receptive-field.others_radius50_t200",
    )
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not what the records give")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: beside the records)")
    parser.add_argument(
        "--columns",
        metavar="LIST",
        default="",
        help="numbers of published analyses to print too, with commas: WHAT.NUMBER (the page stays as it is)",
    )
    parser.add_argument(
        "--errors",
        type=Path,
        metavar="RUNS",
        help="first keep beside each record the errors of its images, from the run in this folder of runs that gives its curves "
        "(`bench run` and `bench sweep` do so themselves)",
    )
    records_flag(parser)
    json_flag(parser)


def leaderboard(options: argparse.Namespace) -> int:
    """`bench leaderboard`."""
    from benchmark.pages import kept
    from benchmark.pages import leaderboard as board

    records = records_of(options)
    if not records.is_dir():
        raise UsageError(f"There are no records at {records}. `bench sweep mini` makes the first ones.")
    if options.errors:
        _keep_errors(options.errors, records)
    out, published = options.out or records.parent, PUBLISHED
    if options.check:
        problems = board.stale(records, out, published)
        for problem in problems:
            say(problem)
        say(f"{out / 'README.md'} is {'not what the records give' if problems else 'what the records give'}")
        return 1 if problems else 0
    columns = tuple(name.strip() for name in options.columns.split(",") if name.strip())
    read = board.read(records)
    printed = board.as_json(records, columns, read) if options.json else board.summary(records, columns, terminal_width(), read)
    written = board.build(records, out, published, read, home() / kept.FOLDER)
    if options.json:
        print_json(printed)
        return 0
    print_rich(*printed)
    drawn = sum(path.suffix == ".svg" for path in written)
    say(f"The page: {near(out / 'README.md')}; every table: {near(out / 'tables.md')}; {drawn} pictures: {near(out / 'figures')}")
    return 0


def _keep_errors(runs: Path, records: Path) -> None:
    """Keep beside every record the errors of the run in `runs` that has its id, and say of how many records they are there now."""
    from benchmark.recording import errors, record

    if not runs.is_dir():
        raise UsageError(f"--errors {runs} is no folder of runs.")
    made = record.read_all(records)
    paths = [(one, record.path_of(records, one.row, one.half)) for one in made]
    brought = sum(errors.keep(runs / one.id, one, path) for one, path in paths)
    there = sum(errors.beside(path).is_file() for _, path in paths)
    say(f"Errors of single images: {brought} from {near(runs.resolve())}; beside {there} of {len(made)} records")
