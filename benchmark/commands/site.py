"""`bench site`: the leaderboard as pages for a browser."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, json_flag, records_flag
from benchmark.commands.output import near, print_json, say
from benchmark.commands.place import records_of
from benchmark.commands.words import typed
from benchmark.errors import UsageError
from benchmark.files import PUBLISHED, home


def add(verbs: Any) -> None:
    """Add `bench site`."""
    parser = command(
        verbs,
        "site",
        site,
        "make the leaderboard's pages for a browser, from the records alone",
        "bench site",
        "bench site --records runs/demo/records --out build/demo",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of the site, replaced whole (default: build/site)")
    records_flag(parser)
    json_flag(parser)


def site(options: argparse.Namespace) -> int:
    """`bench site`."""
    from benchmark.pages import site as pages
    from benchmark.running.progress import Display

    records = records_of(options)
    if not records.is_dir():
        raise UsageError(f"There are no records at {records}. `bench sweep mini` makes the first ones.")
    out = (options.out or home() / "build" / "site").resolve()
    sources = pages.Sources(records, home() / "submissions", PUBLISHED, PUBLISHED.parent / "RULES.md")
    with Display(words=typed) as display:
        count = pages.build(sources, out, display.bar("pages"))
    if options.json:
        print_json({"out": str(out), "pages": count})
    else:
        say(f"{count} pages. Open {near(out / 'index.html')} in a browser; no server is needed.")
    return 0
