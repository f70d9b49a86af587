"""`bench list`: what can be compared, and what has been run."""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from benchmark.commands.flags import command, json_flag, registry_flag
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import home
from benchmark.commands.words import typed
from benchmark.declaring import registry

WORDS = ("models", "layouts", "datasets", "recipes", "suites", "runs")


def add(verbs: Any) -> None:
    """Add `bench list`."""
    parser = command(
        verbs,
        "list",
        list_entries,
        "what can be compared, and what has been run",
        "bench list",
        "bench list layouts",
        "bench list runs --json",
    )
    parser.add_argument("what", nargs="?", choices=WORDS, help="only these (default: all but runs)")
    registry_flag(parser)
    json_flag(parser)


def list_entries(options: argparse.Namespace) -> int:
    """`bench list`."""
    if options.what == "runs":
        return _list_runs(options)
    search = registry.roots(options.registry)
    axes = [options.what[:-1]] if options.what else list(registry.FOLDERS)
    found = {axis: registry.entries(axis, search) for axis in axes}
    recorded = _recorded()
    if options.json:
        print_json(
            {
                f"{axis}s": [
                    {
                        "name": e.name,
                        "records": recorded[axis][e.name],
                        "description": e.description,
                        "assumed": e.assumed,
                        **({"subset": e.subset} if axis == "recipe" else {}),
                        "file": str(e.path),
                        "broken": _broken(e),
                    }
                    for e in files.values()
                ]
                for axis, files in found.items()
            }
        )
        return 0
    for axis, files in found.items():
        rows = [(e.name, recorded[axis][e.name] or "", _said(e)) for e in files.values()]
        if axis == "suite":  # a suite is no part of a record: `bench suite show` says which of its rows have one
            print_table("suites", ("name", "what it is"), [(name, said) for name, _, said in rows])
        else:
            print_table(f"{axis}s", ("name", "records", "what it is"), rows)
    return 0


def _broken(file: registry.EntryFile) -> str | None:
    from benchmark.declaring.entries import fault

    why = fault(file)
    return why and typed(why)


def _said(file: registry.EntryFile) -> str:
    if why := _broken(file):
        return f"BROKEN: {why}"
    made_for = f" (N = {file.subset:,})" if file.subset else ""
    return file.description + made_for + (f" (assumed: {', '.join(file.assumed)})" if file.assumed else "")


def _list_runs(options: argparse.Namespace) -> int:
    from benchmark.running import description

    rows: list[tuple[Any, ...]] = []
    for path in sorted((home() / "runs").glob(f"*/{description.FILE}")):
        try:
            document = description.read(path.parent)
        except description.Damaged:
            rows.append((path.parent.name, *[""] * 3, f"its {path.name} is damaged", *[""] * 6))
            continue
        spec = document["spec"]
        names = [spec[axis]["name"] for axis in ("model", "layout", "dataset", "recipe")]
        gap, state = _gap_and_state(path.parent, spec["recipe"]["config"].get("steps", 0))
        numbers = (spec["subset"], spec["seed"], gap, state)
        rows.append((document["id"], *numbers, *names, spec.get("half") or "", " ".join(map(str, document["overrides"]))))
    columns = ("id", "N", "seed", "gap", "state", "model", "layout", "dataset", "recipe", "half", "set")
    if options.json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    elif rows:
        print_table("runs", columns, rows)
    else:
        say("No runs yet. Start with: bench run --model dit_mini --layout global --dataset dead_leaves8 --subset 16 --recipe mini")
    return 0


def _gap_and_state(folder: Path, steps: int) -> tuple[str, str]:
    """Return the gap in dB of a finished run, '' of another, and how far a run is."""
    try:
        return f"{json.loads((folder / 'record.json').read_text(encoding='utf-8-sig'))['psnr_gap']:.3f}", "finished"
    except FileNotFoundError:
        saved = sorted(path.name for path in (folder / "checkpoints").glob("[0-9]*") if path.name.isdecimal())
        return "", f"step {int(saved[-1])} of {steps}" if saved else "begun"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", "finished, its record is damaged"


def _recorded() -> dict[str, Counter[str]]:
    """Return how many records every name of an axis has, from where they lie: recipe/dataset/model-layout-nN-sK.json."""
    found: dict[str, Counter[str]] = {axis: Counter() for axis in registry.FOLDERS}
    for path in (home() / "leaderboard" / "records").glob("*/*/[!.]*.json"):
        try:
            spec = json.loads(path.read_text(encoding="utf-8-sig"))["spec"]
            names = {axis: str(spec[axis]["name"]) for axis in ("model", "layout", "dataset", "recipe")}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # `bench check` names it
        for axis, name in names.items():
            found[axis][name] += 1
    return found
