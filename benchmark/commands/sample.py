"""`bench sample` and `bench compare`: images from trained runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    DEFAULT_STEPS_SAID,
    SAMPLERS,
    command,
    json_flag,
    machine_flags,
    records_flag,
    registry_flag,
    variance_flag,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import place_of, records_of, run_folder
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.declaring.fields import FieldError
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.sampling import Request
    from benchmark.sampling.samplers import Variance


def add_sample(verbs: Any) -> None:
    """Add `bench sample`."""
    parser = command(
        verbs,
        "sample",
        sample,
        "draw images from a finished run; the same command again resumes it",
        "bench sample 1a2b3c4d5e6f --count 64 --sampler dpm --grid samples.png",
        "bench sample 1a2b3c4d5e6f --count 50000 --batch 512 --device cuda",
        "bench sample 1a2b3c4d5e6f --publish",
        "bench sample 1a2b3c4d5e6f --count 1024 --sampler ddim --steps 100 --eta 0.5 --seed 1",
    )
    parser.add_argument("run", metavar="RUN", help="a run's id, its first digits, or its folder")
    _request_flags(parser, "ancestral")
    parser.add_argument("--eta", type=float, default=0.0, help="noise of ddim, 0 (none) to 1 (as ancestral) (default: 0)")
    variance_flag(parser)
    parser.add_argument("--guidance", type=float, metavar="W", help="classifier-free guidance, where the model has classes (1: none)")
    parser.add_argument("--grid", type=Path, metavar="FILE.png", help="draw the first 64 samples, 8 by 8")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="put the page's grid beside its records: 64 samples, dpm with 20 steps, seed 0, whatever else is said",
    )
    _machine(parser)
    records_flag(parser)


def add_compare(verbs: Any) -> None:
    """Add `bench compare`."""
    parser = command(
        verbs,
        "compare",
        compare,
        "how alike are the images that two runs make from the same noise?",
        "bench compare 1a2b3c4d5e6f 6f5e4d3c2b1a --count 256",
        "bench compare 1a2b3c4d5e6f 6f5e4d3c2b1a --sampler ddim --steps 100 --overlap",
    )
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a run's id, its first digits, or its folder")
    _request_flags(parser, "dpm")
    parser.add_argument("--overlap", action="store_true", help="compare runs although they share training images")
    _machine(parser)


def sample(options: argparse.Namespace) -> int:
    """`bench sample`."""
    from benchmark import sampling
    from benchmark.files import write_bytes
    from benchmark.recording import grids
    from benchmark.running.progress import Display

    folder, request = run_folder(options.run), _request(options, options.variance, eta=options.eta, guidance=options.guidance)
    if options.publish:
        options.count, options.sampler, options.steps, options.seed = 64, "dpm", 20, 0
        options.grid = _published_grid(folder, records_of(options))
        request = _request(options)
    if options.grid and options.grid.suffix.lower() != ".png":
        raise UsageError(f"--grid {options.grid} must be the name of a .png file.")
    place = place_of(options)
    with Display(words=typed) as display:
        images, info = sampling.sample_run(folder, request, place, display, registry.roots(options.registry), options.batch)
    path = folder / "samples" / request.key / "images.npy"
    if options.grid:
        write_bytes(options.grid, grids.grid(images))
    if options.json:
        print_json(info | {"images": str(path), "grid": str(options.grid) if options.grid else None})
        return 0
    say(f"{request.count} samples of {folder.name}, {request.sampler} with {request.steps} steps, seed {request.seed}: {near(path)}")
    if options.grid:
        say(f"The first {min(64, request.count)}: {near(options.grid.resolve())}")
    return 0


def _published_grid(folder: Path, records: Path) -> Path:
    """Return where the page looks for the grid of a run; refuse a run that is not on the page."""
    from benchmark.pages.samples import grid_path
    from benchmark.recording import record

    made = record.read(folder / "record.json")
    if made.half:
        raise UsageError(
            f"The run {folder.name} was trained on half {made.half}, and runs on halves have no row on the page. "
            "`--grid FILE.png` draws its samples."
        )
    if not record.path_of(records, made.row).exists():
        raise UsageError(f"The run {folder.name} has no record under {records}, so the page has no row for its samples.")
    return grid_path(records.parent, made)


def compare(options: argparse.Namespace) -> int:
    """`bench compare`."""
    from benchmark.declaring.fields import to_json
    from benchmark.running.progress import Display
    from benchmark.sampling import compare as comparing

    first, second = options.runs
    folders = run_folder(first), run_folder(second)
    request = _request(options)
    if request.sampler == "ancestral":
        raise UsageError("--sampler ancestral draws fresh noise at every step; two runs are compared with dpm or ddim.")
    place = place_of(options)
    with Display(words=typed) as display:
        result = comparing.compare(
            folders, request, place, display, registry.roots(options.registry), overlap=options.overlap, batch=options.batch
        )
    if options.json:
        print_json(to_json(result))
        return 0
    print_table(
        f"{folders[0].name} and {folders[1].name}: {request.count} images from the same noise, {request.sampler}, {request.steps} steps",
        ("what", "PSNR, dB", "cosine", "distance"),
        comparing.rows(result),
    )
    say(f"Training images: {result.train_images[0]} and {result.train_images[1]}, {result.shared_images} of them shared.")
    say(comparing.sentence(result))
    return 0


def _request_flags(parser: argparse.ArgumentParser, sampler: str) -> None:
    parser.add_argument("--count", type=int, default=64, metavar="N", help="samples (default: 64)")
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default=sampler, help=f"dpm is DPM-Solver++ 2M, euler and heun solve the flow (default: {sampler})"
    )
    parser.add_argument(
        "--steps", type=int, metavar="S", help=f"network evaluations; heun evaluates twice a step (default: {DEFAULT_STEPS_SAID})"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="K", help="of the noise (default: 0)")


def _machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch", type=int, metavar="B", help="images at once (default: 256 on cuda, 32 on cpu)")
    registry_flag(parser)
    machine_flags(parser)
    json_flag(parser)


def _request(
    options: argparse.Namespace, variance: "Variance" = "beta_tilde", *, eta: float = 0.0, guidance: float | None = None
) -> "Request":
    from benchmark.sampling import DEFAULT_STEPS, Request

    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch} must be at least 1.")
    steps = DEFAULT_STEPS[options.sampler] if options.steps is None else options.steps
    try:
        return Request(
            count=options.count, sampler=options.sampler, steps=steps, eta=eta, variance=variance, guidance=guidance, seed=options.seed
        )
    except FieldError as problem:
        raise UsageError(f"--{problem}.") from None
