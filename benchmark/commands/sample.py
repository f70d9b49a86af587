"""`bench sample` and `bench compare`: images from trained runs."""

import argparse
from pathlib import Path
from typing import Any

from benchmark.commands.flags import (
    command,
    json_flag,
    machine_flags,
    records_flag,
    registry_flag,
    whole,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import place_of, records_of, run_folder
from benchmark.commands.samples import request_of, samples_flags, variance_flag
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError

SAMPLER = "dpm"  # deterministic, and good with few evaluations: what two runs can be compared by


def add_sample(verbs: Any) -> None:
    """Add `bench sample`."""
    parser = command(
        verbs,
        "sample",
        sample,
        "draw images from a finished run; the same command again resumes it",
        "bench sample 1a2b3c4d5e6f --count 64 --grid samples.png",
        "bench sample 1a2b3c4d5e6f --count 50000 --sampler ancestral --batch 512 --device cuda --precision bf16",
        "bench sample 1a2b3c4d5e6f --publish",
        "bench sample 1a2b3c4d5e6f --count 1024 --sampler ddim --sampling-steps 100 --eta 0.5 --noise-seed 1",
    )
    parser.add_argument("run", metavar="RUN", help="a run's id, its first digits, or its folder")
    _shared_flags(parser)
    parser.add_argument("--eta", type=float, default=0.0, help="noise of ddim, 0 (none) to 1 (as ancestral) (default: 0)")
    variance_flag(parser)
    parser.add_argument("--guidance", type=float, metavar="W", help="classifier-free guidance, where the model has classes (1: none)")
    parser.add_argument("--grid", type=Path, metavar="FILE.png", help="draw the first 64 samples, 8 by 8")
    parser.add_argument(
        "--publish",
        action="store_true",
        help="put the page's grid beside its records: 64 samples, dpm with 20 steps, noise seed 0, whatever else is said",
    )
    records_flag(parser)


def add_compare(verbs: Any) -> None:
    """Add `bench compare`."""
    parser = command(
        verbs,
        "compare",
        compare,
        "how alike are the images that two runs make from the same noise?",
        "bench compare 1a2b3c4d5e6f 6f5e4d3c2b1a --count 256",
        "bench compare 1a2b3c4d5e6f 6f5e4d3c2b1a --sampler ddim --sampling-steps 100 --overlap",
    )
    parser.add_argument("runs", nargs=2, metavar="RUN", help="a run's id, its first digits, or its folder")
    _shared_flags(parser)
    parser.add_argument("--overlap", action="store_true", help="compare runs although they share training images")


def sample(options: argparse.Namespace) -> int:
    """`bench sample`."""
    from benchmark import sampling
    from benchmark.files import write_bytes
    from benchmark.recording import grids
    from benchmark.running.progress import Display

    folder, grid = run_folder(options.run), options.grid
    request = request_of(options, count=options.count, eta=options.eta, variance=options.variance, guidance=options.guidance)
    if options.publish:
        grid, request = _published_grid(folder, records_of(options)), sampling.Request(count=64, sampler="dpm", steps=20)
    if grid and grid.suffix.lower() != ".png":
        raise UsageError(f"--grid {grid} must be the name of a .png file.")
    place = place_of(options)
    with Display(words=typed) as display:
        images, info = sampling.sample_run(folder, request, place, display, registry.roots(options.registry), options.batch)
    path = folder / "samples" / request.key / "images.npy"
    if grid:
        write_bytes(grid, grids.grid(images))
    if options.json:
        print_json(info | {"images": str(path), "grid": str(grid) if grid else None})
        return 0
    say(f"{request.count} samples of {folder.name}, {request.sampler} with {request.steps} steps, noise seed {request.seed}: {near(path)}")
    if grid:
        say(f"The first {min(64, request.count)}: {near(grid.resolve())}")
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
    request = request_of(options, count=options.count)
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


def _shared_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--count", type=whole(1, 10**12), default=64, metavar="N", help="samples (default: 64)")
    samples_flags(parser, SAMPLER)
    registry_flag(parser)
    machine_flags(parser)
    json_flag(parser)
