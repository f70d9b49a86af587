"""`bench sweep`: the rows of a suite."""

import argparse
from typing import Any

from benchmark import registry
from benchmark.commands.flags import command, json_flag, records_flag, registry_flag, store_flag
from benchmark.commands.output import duration, print_json, print_table
from benchmark.commands.place import home, records_of


def add(verbs: Any) -> None:
    """Add `bench sweep`."""
    parser = command(verbs, "sweep", sweep, "run every row of a suite that is not finished",
                       "bench sweep mini --jobs 2", "bench sweep small --dry-run")
    parser.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")
    parser.add_argument("--jobs", type=int, metavar="J", default=None, help="rows at a time (default: one per core, one per GPU)")
    parser.add_argument("--dry-run", action="store_true", help="print the rows and which are finished; run nothing")
    parser.add_argument("--force", action="store_true", help="run every row anew")
    registry_flag(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    records_flag(parser)
    store_flag(parser)
    parser.add_argument("--no-track", action="store_true", help="keep these runs out of MLflow for now")
    json_flag(parser)


def sweep(options: argparse.Namespace) -> int:
    """`bench sweep`."""
    from benchmark import spec  # noqa: PLC0415
    from benchmark import sweep as sweeps

    search = registry.roots(options.registry)
    rows = list(spec.load_suite(options.suite, search).rows())
    extra = [word for root in options.registry for word in ("--registry", str(root.resolve()))]
    extra += ["--device", options.device] + (["--force"] if options.force else [])
    outcomes = sweeps.sweep(rows, suite=options.suite, home=home(), records=records_of(options), search=search,
                            jobs=options.jobs, extra_flags=extra, dry_run=options.dry_run, force=options.force,
                            store=None if options.no_track else options.store or sweeps.default_store(home()))
    if options.json:
        print_json([outcome._asdict() | {"row": outcome.row._asdict()} for outcome in outcomes])
    elif not options.dry_run:
        rows = [(o.row.model, o.row.layout, o.row.dataset, o.row.subset, o.row.seed, o.status, duration(o.seconds),
                 "" if o.psnr_gap is None else f"{o.psnr_gap:.3f}") for o in outcomes]
        print_table(f"suite {options.suite}", ("model", "layout", "dataset", "N", "seed", "state", "took", "gap, dB"), rows)
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0
