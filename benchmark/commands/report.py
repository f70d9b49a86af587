"""`bench report`: the paper's figures and tables from the records."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, json_flag, records_flag
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import home, records_of
from benchmark.errors import UsageError
from benchmark.files import PUBLISHED


def add(verbs: Any) -> None:
    """Add `bench report` and its reports."""
    group = verbs.add_parser("report", help="the paper's figures and tables from the records", description="Reports from the records.")
    reports = group.add_subparsers(metavar="REPORT", required=True)
    parser = command(
        reports,
        "paper",
        paper,
        "the paper, figure by figure: what it prints beside what our records say",
        "bench report paper",
        "bench report paper --suite mini --suite mini_biases --out build/paper",
        "bench report paper --check",
    )
    parser.add_argument(
        "--suite",
        action="append",
        default=[],
        metavar="SUITE",
        help="only the records of this suite's rows; may be repeated (default: every record)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: paper/ beside the records)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where the page is not what the records give")
    records_flag(parser)
    json_flag(parser)


def paper(options: argparse.Namespace) -> int:
    """`bench report paper`."""
    from benchmark.pages import kept, report

    records = records_of(options)
    if not records.is_dir():
        raise UsageError(f"There are no records at {records}. `bench sweep mini` makes the first ones.")
    if options.suite and not options.out:
        raise UsageError(
            "--suite leaves records out, and the page beside the records is made from all of them: say with --out DIR where this one goes."
        )
    out = (options.out or records.parent / "paper").resolve()
    material = report.gather(records, PUBLISHED, options.suite)
    if options.check:
        return _check(report.stale(material, records, out), out)
    written = report.build(material, records, out, home() / kept.FOLDER)
    if options.json:
        print_json(report.as_json(material))
        return 0
    rows = [
        (exhibit.name, exhibit.title, printed, _lines(at_scale), _lines(own))
        for exhibit, printed, at_scale, own in report.glance_rows(material)
    ]
    print_table("The paper, figure by figure", ("", "what it shows", "printed", "ours, paper scale", "ours, stand-in"), rows)
    for title, columns, lines in report.agreement_tables(material.analyses):
        print_table(title, columns, lines)
    say(f"The page: {near(out / report.PAGE)}\nThe same for a browser, in one file: {near(out / report.HTML)}")
    say(
        f"Every comparison: {near(out / report.COMPARISONS)}\n{sum(path.suffix == '.svg' for path in written)} pictures: "
        f"{near(out / 'figures')}"
    )
    return 0


def _check(problems: list[str], out: Path) -> int:
    for problem in problems:
        say(problem)
    say(f"{near(out)} is {'not what the records give' if problems else 'what the records give'}")
    return 1 if problems else 0


def _lines(sums: list[Any]) -> str:
    return "\n".join(f"{one.word} {one.detail}".strip() for one in sums)
