"""`bench sweep`: the rows of a suite."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    json_flag,
    records_flag,
    registry_flag,
    store_flag,
    suite_argument,
    whole,
)
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import home, records_of
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.suites.engine import Engine
    from benchmark.suites.task import Outcome


def add(verbs: Any) -> None:
    """Add `bench sweep`."""
    parser = command(
        verbs,
        "sweep",
        sweep,
        "run every row of a suite that is not finished",
        "bench sweep mini --jobs 2",
        "bench sweep small --dry-run",
        "bench sweep small --engine ray --address 10.0.0.1:6379 --cpus 2",
        "bench sweep paper_table1 --engine ray --address auto --gpus 1 --cpus 8 --runs s3://bucket/bench",
        "bench sweep paper_table1 --engine slurm --gpus 1 --cpus 8 --slurm partition=gpu --slurm time=12:00:00",
        "bench sweep paper_table1 --engine slurm --slurm partition=gpu --dry-run",
    )
    suite_argument(parser)
    parser.add_argument(
        "--jobs",
        type=whole(1, 4096),
        metavar="J",
        default=None,
        help="rows at a time (default: one per core, or per GPU; ray: what fits on the nodes; slurm: 256)",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the rows and which are finished; run nothing")
    parser.add_argument("--force", action="store_true", help="run every row anew")
    _engine_flags(parser)
    registry_flag(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    records_flag(parser)
    store_flag(parser)
    parser.add_argument("--no-track", action="store_true", help="keep these runs out of MLflow for now")
    json_flag(parser)


def sweep(options: argparse.Namespace) -> int:
    """`bench sweep`."""
    from benchmark.declaring import entries
    from benchmark.suites import sweep as sweeps
    from benchmark.suites.slurm import Slurm

    search = registry.roots(options.registry)
    rows = list(entries.load_suite(options.suite, search).rows())
    engine = engine_of(options)
    outcomes = sweeps.sweep(
        rows,
        suite=options.suite,
        home=home(),
        records=records_of(options),
        search=search,
        jobs=options.jobs,
        device=options.device,
        dry_run=options.dry_run,
        force=options.force,
        engine=engine,
        wait=not options.no_wait,
        store=None if options.no_track else options.store or sweeps.default_store(home()),
        words=typed,
    )
    if isinstance(engine, Slurm) and options.dry_run:
        left = sum(outcome.status == "waiting" for outcome in outcomes)
        say(engine.script(home(), left, options.jobs) if left else "Every row is finished: there is nothing to submit.")
    elif options.json:
        print_json([one._asdict() | {"row": one.row._asdict(), "problem": typed(one.problem)} for one in outcomes])
    elif not options.dry_run:
        _print_outcomes(options.suite, outcomes)
    return 1 if any(outcome.status == "failed" for outcome in outcomes) else 0


ENGINE_FLAGS = {
    "address": ("ray",),
    "retries": ("ray",),
    "runs": ("ray",),
    "cpus": ("ray", "slurm"),
    "gpus": ("ray", "slurm"),
    "slurm": ("slurm",),
    "no_wait": ("slurm",),
}


def engine_of(options: argparse.Namespace) -> "Engine":
    """Return the engine that the flags ask for; raise UsageError where a flag belongs to another one."""
    for name, engines in ENGINE_FLAGS.items():
        if getattr(options, name) and options.engine not in engines:
            raise UsageError(
                f"--{name.replace('_', '-')} belongs to --engine {' or '.join(engines)}, not to {options.engine}. "
                "`bench sweep --help` has examples."
            )
    cpus = 1 if options.cpus is None else options.cpus
    if options.engine == "ray":
        from benchmark.suites.cluster import Cluster

        return Cluster(
            options.address, cpus=cpus, gpus=options.gpus, retries=3 if options.retries is None else options.retries, store=options.runs
        )
    if options.engine == "slurm":
        from benchmark.suites.slurm import Slurm

        return Slurm(options.slurm, cpus=cpus, gpus=options.gpus or 0)
    from benchmark.suites.local import Local

    return Local()


def _engine_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        choices=("local", "ray", "slurm"),
        default="local",
        help="where the rows run: on this machine, as tasks of a Ray cluster, as a Slurm job array (default: local)",
    )
    parser.add_argument("--cpus", type=int, metavar="C", help="ray, slurm: CPUs, and threads, of each row (default: 1)")
    parser.add_argument("--gpus", type=int, metavar="G", help="ray, slurm: GPUs of each row (default: ray 1 where there are any, slurm 0)")
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="ray: the head of the cluster, or auto (default: RAY_ADDRESS, else the cluster of this machine, else a new one)",
    )
    parser.add_argument("--retries", type=int, metavar="R", help="ray: how often a row may lose its node (default: 3)")
    parser.add_argument("--runs", metavar="URL", help="ray: where the runs are kept, for nodes that share no directory (s3://…, gs://…)")
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="slurm: an option of sbatch; may be repeated. cluster=local tries the array on this machine, setup=LINE runs a line first",
    )
    parser.add_argument("--no-wait", action="store_true", help="slurm: submit and return; the same command later says what is finished")


def _print_outcomes(suite: str, outcomes: "Sequence[Outcome]") -> None:
    lines = [
        (
            one.row.model,
            one.row.layout,
            one.row.dataset,
            one.row.subset,
            one.row.seed,
            one.status,
            duration(one.seconds),
            "" if one.psnr_gap is None else f"{one.psnr_gap:.3f}",
        )
        for one in outcomes
    ]
    print_table(f"suite {suite}", ("model", "layout", "dataset", "N", "seed", "state", "took", "gap, dB"), lines)
