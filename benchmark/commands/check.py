"""`bench check`: entries and records against their contract."""

import argparse
from pathlib import Path
from typing import Any

from benchmark import registry
from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import print_json
from benchmark.commands.place import home


def add(verbs: Any) -> None:
    """Add `bench check`."""
    parser = command(verbs, "check", check, "hold entries and records to their contract",
                       "bench check", "bench check registry/backbones/dit_xs1.gin", "bench check leaderboard/records")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE",
                         help="records (.json), entries (.gin) or folders of them (default: all of the project's)")
    registry_flag(parser)
    json_flag(parser)


def check(options: argparse.Namespace) -> int:
    """`bench check`."""
    from benchmark import check as checks  # noqa: PLC0415

    own = [path for path in (home() / "leaderboard" / "records",) if path.is_dir()]
    paths = options.files or [*own, *registry.roots(options.registry)]
    verdicts = checks.check(paths, registry.roots(options.registry))
    if options.json:
        print_json([{"file": str(v.path), "problem": v.problem} for v in verdicts])
    else:
        for verdict in verdicts:
            if verdict.problem:
                print(f"{verdict.path}: {verdict.problem}")
        bad = sum(bool(verdict.problem) for verdict in verdicts)
        print(f"{len(verdicts)} checked, {bad} with problems" if bad else f"{len(verdicts)} checked, all well")
    return 1 if any(v.problem for v in verdicts) else 0
