"""`bench run`: one row."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.commands.dry_run import dry_run
from benchmark.commands.flags import (
    command,
    json_flag,
    label,
    machine_flags,
    records_flag,
    registry_flag,
    seconds,
    step_flags,
    store_flag,
)
from benchmark.commands.found import print_record, ran
from benchmark.commands.output import say
from benchmark.commands.place import home, place_of
from benchmark.commands.row import row_flags, row_of, spec_of
from benchmark.commands.words import typed


def add(verbs: Any) -> None:
    """Add `bench run`."""
    parser = command(
        verbs,
        "run",
        run,
        "train and score one row; the same command again resumes it",
        "bench run --model dit_xs1 --layout local_head --dataset lsun_church",
        "bench run --model dit_mini --layout local_3x3_head --dataset dead_leaves8 --subset 16 --recipe mini",
        "bench run --model dit_mini --layout global --dataset dead_leaves8 --recipe mini --set recipe.steps=500",
        "bench run --model dit_mini --layout global --dataset dead_leaves8 --subset 64 --recipe mini --half a",
        "bench run --model dit_s1 --layout global --dataset celeba --micro-batch 16 --recompute",
        "bench run --record leaderboard/records/mini/dead_leaves8/dit_mini-global-n16-s0.json --force",
        "torchrun --nproc-per-node 8 --no-python bench run --model dit_s1 --layout global --dataset celeba",
    )
    row_flags(parser)
    parser.add_argument("--dry-run", action="store_true", help="print the resolved spec and what it would cost; run nothing")
    parser.add_argument("--no-timing", action="store_true", help="with --dry-run: time no step, which takes seconds of a large network")
    parser.add_argument("--force", action="store_true", help="run anew, dropping the run's checkpoints and record")
    parser.add_argument(
        "--accept-old-code", action="store_true", help="resume or return what other code made, though its numbers may not be this code's"
    )
    parser.add_argument("--checkpoint-every", type=seconds, metavar="SECONDS", default=60.0, help="(default: 60)")
    parser.add_argument("--suite", type=label, metavar="NAME", help="the suite this row belongs to, for tracking")
    parser.add_argument("--wait", action="store_true", help="where another process works on this run, wait for it to end")
    registry_flag(parser)
    machine_flags(parser)
    step_flags(parser)
    records_flag(parser)
    store_flag(parser)
    parser.add_argument("--no-track", action="store_true", help="keep this run out of MLflow; `bench track sync` adds it later")
    json_flag(parser)


def run(options: argparse.Namespace) -> int:
    """`bench run`."""
    from benchmark import run as runs
    from benchmark.running.processes import joined
    from benchmark.running.progress import Display

    row = row_of(options)
    if options.dry_run:  # before torch is imported: the first line is there at once
        say(f"dry run of {row.named}: what it would be, and what it would cost", error=True)
    spec = spec_of(row)
    place = place_of(options)
    if options.dry_run:
        return dry_run(spec, place, timed=not options.no_timing, json=options.json)
    mirrors: list[Any] = []
    with joined(place.device) as processes, Display(silent=not processes.first, words=typed) as display:
        place = replace(place, processes=processes)
        done, title = None if options.force else runs.finished(spec, place), f"{spec.title}, recipe {spec.recipe.name} ({spec.id})"

        def started(folder: Path) -> None:
            display.note(title)
            _mirror(options, folder, mirrors)

        with _mirrored(mirrors, display):
            result = ran(lambda: runs.run(spec, place, display, force=options.force, started=started))
        if done:
            display.note(f"{title}: already finished")
    if processes.first:
        print_record(result, place, "already finished" if done else "finished", json=options.json)
    return 0


@contextmanager
def _mirrored(mirrors: list[Any], display: Any) -> Iterator[None]:
    """Give MLflow at most ten seconds after the run, whatever became of it, and say once what it missed."""
    try:
        yield
    finally:
        for mirror in mirrors:
            if warning := mirror.finish():
                display.note(warning)


def _mirror(options: argparse.Namespace, folder: Path, mirrors: list[Any]) -> None:
    if not options.no_track:
        from benchmark.recording import tracking

        mirrors.append(tracking.start(folder, store=options.store or tracking.default_store(home())))
