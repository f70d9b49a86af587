"""Where a command works: a checkout, the home folder, the records, a run's folder, the device."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.commands.output import near
from benchmark.errors import UsageError
from benchmark.files import home, is_checkout
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.recording.record import Record
    from benchmark.run import Place

MOST_THREADS = 4096


def place_of(options: argparse.Namespace) -> "Place":
    """Return the place of a run, and set torch up for reproducible numbers."""
    from benchmark.networks.numerics import set_up
    from benchmark.run import Place
    from benchmark.running.environment import choose_device, keep_memory
    from benchmark.running.place import strict_on
    from benchmark.running.processes import own_device

    if options.threads is not None and not 1 <= options.threads <= MOST_THREADS:
        raise UsageError(f"--threads {options.threads} must be from 1 to {MOST_THREADS}.")
    micro_batch = getattr(options, "micro_batch", None)
    if micro_batch is not None and micro_batch < 1:
        raise UsageError(f"--micro-batch {micro_batch} must be at least 1.")
    device = choose_device(options.device)
    asked = getattr(options, "deterministic", None)
    deterministic = strict_on(device) if asked is None else asked
    set_up(options.threads, home() / "runs" / "compiled", strict=deterministic)
    keep_memory()
    return Place(
        home=home(),
        records=records_of(options),
        device=own_device(device),
        suite=getattr(options, "suite", None),
        checkpoint_seconds=getattr(options, "checkpoint_every", 60.0),
        micro_batch=micro_batch,
        recompute=getattr(options, "recompute", False),
        attention_kernel=getattr(options, "attention_kernel", "auto"),
        deterministic=deterministic,
        wait=getattr(options, "wait", False),
        accept_old_code=getattr(options, "accept_old_code", False),
    )


def records_of(options: argparse.Namespace) -> Path:
    """Return the folder of records."""
    named = getattr(options, "records", None)  # commands that touch no record have no such flag
    return named.resolve() if named else home() / "leaderboard" / "records"


def in_checkout(why: str) -> None:
    """Raise UsageError where this is an installed package; `why` says what needs the checkout."""
    if not is_checkout():
        raise UsageError(f"{why}, and this is an installed package. Clone the project, then in its folder: pip install -e .")


def run_folder(name: str, records: Path | None = None) -> Path:
    """Return the folder of a run, named by path, id or the id's first digits; a record without one is said to be that."""
    if (Path(name) / "spec.json").exists():
        return Path(name).resolve()
    found = [path.parent for path in (home() / "runs").glob("*/spec.json") if path.parent.name.startswith(name)]
    if len(found) == 1:
        return found[0]
    if not found and (only := _record_of(name, records or home() / "leaderboard" / "records")):
        path, stored = only
        if (folder := home() / "runs" / stored.id / "spec.json").exists():
            return folder.parent
        raise UsageError(
            f"{stored.id} has its record here, {near(path)}, and not its weights: nothing can be drawn from it or measured in it. "
            f"{training_words(path, stored.training.wall_seconds)} Then the same command works."
        )
    count = "No run's" if not found else f"{len(found)} runs'"
    raise UsageError(f"{count} id begins with '{name}'. `bench list runs` names them.")


def training_words(path: Path, seconds: float) -> str:
    """Say what trains the row of a record, and about how long."""
    return f"`bench run --record {near(path)} --force` trains it, in about {duration(seconds)} where the record was made."


def _record_of(name: str, records: Path) -> "tuple[Path, Record] | None":
    """Return the record at a path, or the only one whose id begins with `name`."""
    from benchmark.recording import record

    if Path(name).suffix == ".json" and Path(name).is_file():
        return Path(name), record.read(Path(name))
    found = [path for path in sorted(records.rglob("[!.]*.json")) if _id_in(path).startswith(name)] if name else []
    return (found[0], record.read(found[0])) if len(found) == 1 else None


def _id_in(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8-sig"))["id"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
