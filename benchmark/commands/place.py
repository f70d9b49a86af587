"""Where a command works: the home folder, the records, a run's folder, the device."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.errors import UsageError
from benchmark.files import home

if TYPE_CHECKING:
    from benchmark.run import Place


def place_of(options: argparse.Namespace) -> "Place":
    """Return the place of a run, and set torch up for reproducible numbers."""
    from benchmark.networks.numerics import reproducible
    from benchmark.run import Place
    from benchmark.running.environment import choose_device
    from benchmark.running.processes import own_device

    if options.threads is not None and options.threads < 1:
        raise UsageError(f"--threads {options.threads} must be at least 1.")
    micro_batch = getattr(options, "micro_batch", None)
    if micro_batch is not None and micro_batch < 1:
        raise UsageError(f"--micro-batch {micro_batch} must be at least 1.")
    reproducible(options.threads, home() / "runs" / "compiled")
    return Place(
        home=home(),
        records=records_of(options),
        device=own_device(choose_device(options.device)),
        suite=getattr(options, "suite", None),
        checkpoint_seconds=getattr(options, "checkpoint_every", 60.0),
        micro_batch=micro_batch,
        recompute=getattr(options, "recompute", False),
        attention_kernel=getattr(options, "attention_kernel", "auto"),
        wait=getattr(options, "wait", False),
    )


def records_of(options: argparse.Namespace) -> Path:
    """Return the folder of records."""
    named = getattr(options, "records", None)  # commands that touch no record have no such flag
    return named.resolve() if named else home() / "leaderboard" / "records"


def run_folder(name: str) -> Path:
    """Return the folder of a run, named by path, id or the id's first digits."""
    if (Path(name) / "spec.json").exists():
        return Path(name).resolve()
    found = [path.parent for path in (home() / "runs").glob("*/spec.json") if path.parent.name.startswith(name)]
    if len(found) != 1:
        count = "No run's" if not found else f"{len(found)} runs'"
        raise UsageError(f"{count} id begins with '{name}'. `bench list runs` names them.")
    return found[0]
