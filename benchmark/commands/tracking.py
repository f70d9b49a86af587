"""`bench ui` and `bench track`: MLflow, the mirror of the runs."""

import argparse
import sys
from typing import Any

from benchmark.commands.flags import command, json_flag, store_flag
from benchmark.commands.output import print_json, print_table
from benchmark.commands.place import home, run_folder


def add(verbs: Any) -> None:
    """Add `bench ui` and `bench track`."""
    opened = command(verbs, "ui", ui, "open the MLflow UI on the project's runs", "bench ui", "bench ui --port 5001")
    opened.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    opened.add_argument("--port", type=int, default=5000, help="(default: 5000)")
    store_flag(opened)
    group = verbs.add_parser("track", help="bring MLflow up to date", description="MLflow is a mirror of the runs.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    sync = command(
        actions,
        "sync",
        track_sync,
        "replay into MLflow what it has missed",
        "bench track sync",
        "bench track sync 1a2b3c4d5e6f --store http://127.0.0.1:5000",
    )
    sync.add_argument("runs", nargs="*", metavar="RUN", help="(default: every run)")
    store_flag(sync)
    json_flag(sync)


def ui(options: argparse.Namespace) -> int:
    """`bench ui`."""
    from benchmark.recording import tracking

    return tracking.ui(home(), options.store or tracking.default_store(home()), options.host, options.port, opened=sys.stdout.isatty())


def track_sync(options: argparse.Namespace) -> int:
    """`bench track sync`."""
    from benchmark.recording import tracking

    store = options.store or tracking.default_store(home())
    folders = [run_folder(name) for name in options.runs] or sorted(p.parent for p in (home() / "runs").glob("*/spec.json"))
    outcomes = tracking.sync(folders, store)
    if options.json:
        print_json([{"run": name, "outcome": outcome} for name, outcome in outcomes])
    else:
        print_table(f"into {tracking.shown(store)}", ("run", "outcome"), outcomes)
    return 1 if any(outcome.startswith("failed") for _, outcome in outcomes) else 0
