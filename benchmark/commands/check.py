"""`bench check`: entries and records against their contract."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import near, print_json, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.contributing.check import Verdict


def add(verbs: Any) -> None:
    """Add `bench check`."""
    parser = command(
        verbs,
        "check",
        check,
        "hold entries and records to their contract",
        "bench check",
        "bench check dit_mini",
        "bench check my_bias --registry . --compile",
        "bench check registry/backbones/dit_xs1.gin",
        "bench check leaderboard/records/mini",
        "bench check --static --registry ../theirs",
    )
    parser.description = (
        "Hold entries and records to their contract. The module of an entry is code: to check it, or to use the entry in any "
        "other command, runs it with your rights. --static reads text alone."
    )
    parser.add_argument(
        "files",
        nargs="*",
        metavar="NAME|FILE",
        help="entries by name, entries (.gin) and records (.json) by path, or folders: of those the entries under the axis folders and "
        "the records under records, nothing else (default: all of the project's, or with --registry all of those folders')",
    )
    parser.add_argument("--compile", action="store_true", help="try torch.compile on every model too (a minute each)")
    parser.add_argument("--static", action="store_true", help="read the text of entries and of their modules, and run nothing of theirs")
    registry_flag(parser)
    json_flag(parser)


def check(options: argparse.Namespace) -> int:
    """`bench check`."""
    from benchmark.contributing import apart
    from benchmark.contributing import check as checks

    search = registry.roots(options.registry)
    own = [path for path in (home() / "leaderboard" / "records",) if path.is_dir()]
    everything = list(search[1:]) or [*own, *search]
    paths = checks.files(options.files, search) if options.files else everything
    looked = checks.look(paths, search, home()) if options.static else None
    verdicts = apart.check(paths, search, compiled=options.compile, home=home()) if looked is None else looked
    if options.files and not verdicts:
        raise UsageError(
            f"{' '.join(options.files)} holds no entry and no record. Entries are .gin files in {', '.join(registry.FOLDERS.values())}; "
            "records are .json files under records."
        )
    if not options.static and any(not path.is_relative_to(registry.STOCK) for path in _entries(verdicts)):
        say("The code of entries from elsewhere was run, with your rights. --static looks without running any.", error=True)
    if options.json:
        print_json([_as_json(verdict) for verdict in verdicts])
    else:
        _print(verdicts, in_full=bool(options.files) and len(verdicts) <= 10)
    return 1 if any(v.problem for v in verdicts) else 0


def _entries(verdicts: "list[Verdict]") -> list[Path]:
    return [verdict.path.resolve() for verdict in verdicts if verdict.path.suffix == ".gin"]


def _as_json(verdict: "Verdict") -> dict[str, Any]:
    rules = [outcome._asdict() | {"note": typed(outcome.note)} for outcome in verdict.outcomes]
    return {"file": str(verdict.path), "problem": verdict.problem and typed(verdict.problem), "rules": rules}


def _print(verdicts: "list[Verdict]", in_full: bool) -> None:
    """Print one line per rule where a few entries were named, else the problems alone, then the count."""
    for verdict in verdicts:
        if in_full:
            say(near(verdict.path.resolve()))
        for rule, outcome, note in verdict.outcomes:
            if in_full:
                say(f"  {outcome:8} {rule:15} {' '.join(note.split())}")
            elif outcome == "problem":
                say(f"{near(verdict.path.resolve())}: {rule}: {' '.join(note.split())}")
    bad = sum(bool(verdict.problem) for verdict in verdicts)
    skipped = sum(outcome.outcome == "not run" for verdict in verdicts for outcome in verdict.outcomes)
    say(f"{len(verdicts)} checked, {bad} with problems" if bad else f"{len(verdicts)} checked, all well")
    if skipped and not in_full:
        say(f"{skipped} rules were not run because they do not apply, or wait for --compile; name an entry to see which")
