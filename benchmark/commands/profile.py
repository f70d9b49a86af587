"""`bench profile`: where the time and the memory of a training step go."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    json_flag,
    machine_flags,
    registry_flag,
    step_flags,
)
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import place_of
from benchmark.commands.row import row_flags, row_of, spec_of
from benchmark.commands.words import typed
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.analysis.profile import Profile


def add(verbs: Any) -> None:
    """Add `bench profile`."""
    parser = command(
        verbs,
        "profile",
        run,
        "measure a row's training step: time and memory by part, FLOP/s, the time of the run",
        "bench profile --model dit_mini --layout local_3x3_head --dataset dead_leaves8 --recipe mini",
        "bench profile --model dit_xs1 --layout local_head --dataset celeba --set recipe.precision=bf16 --steps 20",
        "bench profile --model dit_xs1 --layout global --dataset celeba --set recipe.batch=8 --steps 3 --trace step.json",
    )
    row_flags(parser)
    parser.add_argument(
        "--steps", type=int, metavar="S", default=10, help="training steps to measure, after two that are not (default: 10)"
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write three steps as a Chrome trace (chrome://tracing, Perfetto)")
    registry_flag(parser)
    machine_flags(parser)
    step_flags(parser)
    json_flag(parser)


def run(options: argparse.Namespace) -> int:
    """`bench profile`. The images are made up: the row's own need not be there."""
    from benchmark.analysis.profile import profile
    from benchmark.running.progress import Display

    spec, place = spec_of(row_of(options)), place_of(options)
    with Display(words=typed) as display:
        measured = profile(spec, place, steps=options.steps, trace=options.trace, warn=display.note, progress=display.bar("profiling"))
    if options.json:
        print_json(asdict(measured) | {"spec": spec.to_json()})
    else:
        _print(measured, f"{spec.title}, recipe {spec.recipe.name}")
    if options.trace and not options.json:
        say(f"The trace: {options.trace}")
    return 0


def _print(measured: "Profile", title: str) -> None:
    at_a_time = f", {measured.micro_batch} at a time" if measured.micro_batch else ""
    whole = measured.step_seconds
    rows = [(part, f"{1000 * part_s:.2f}", f"{100 * part_s / whole:.1f}%") for part, part_s in measured.seconds.items()]
    rows.append(("step", f"{1000 * measured.step_seconds:.2f}", f"{measured.images_per_second:.1f} images/s"))
    say(f"{title}\n{measured.batch} images a step{at_a_time}, {measured.precision}, on {measured.device}, threads: {measured.threads}\n")
    print_table("a training step", ("part", "ms (median)", "share"), rows)
    print_table("memory", ("part", "MiB"), [(part, f"{size / 2**20:.1f}") for part, size in measured.memory_bytes.items()])
    peaks = ", ".join(f"{name} {_speed(flops)}" for name, flops in measured.peak_flops.items())
    facts = [
        ("achieved", f"{_speed(measured.achieved_flops)}, {100 * measured.utilisation:.0f}% of the measured peak"),
        ("peak of a matrix product", peaks),
        ("the run's training", f"about {duration(measured.training_seconds)}"),
        ("the run's PSNR", f"about {duration(measured.evaluation_seconds)}"),
        *[("attention kernels", f"{where}: {', '.join(dict.fromkeys(names))}") for where, names in measured.kernels.items()],
        *[("note", note) for note in measured.notes],
    ]
    print_table("the run", ("fact", "value"), facts)


def _speed(flops: float) -> str:
    return f"{flops / 1e12:.3g} TFLOP/s" if flops >= 1e12 else f"{flops / 1e9:.3g} GFLOP/s"
