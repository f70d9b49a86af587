"""`bench evaluate`: the networks of finished runs, and those from elsewhere, scored."""

import argparse
from typing import Any

from benchmark.commands.flags import command, json_flag, kernel_flag, machine_flags, records_flag, registry_flag
from benchmark.commands.found import print_record, ran
from benchmark.commands.place import place_of, run_folder
from benchmark.commands.quality import quality_flags, wanted
from benchmark.commands.row import row_elsewhere, spec_of
from benchmark.commands.weights import check_name, loaded_denoiser, loaded_weights, score_loaded, weights_flags
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError


def add(verbs: Any) -> None:
    """Add `bench evaluate`."""
    parser = command(
        verbs,
        "evaluate",
        evaluate,
        "score the checkpoint of a finished run again, without training",
        "bench evaluate 1a2b3c4d5e6f",
        "bench evaluate runs/1a2b3c4d5e6f --device cuda",
        "bench evaluate 1a2b3c4d5e6f --metrics fid,kid,is,prc,sfid --samples 50000",
        "bench evaluate 1a2b3c4d5e6f --metrics fd_randconv,memorisation --samples 1024 --sampler ddim",
        "bench evaluate --weights ema.pt --format dit --model dit_xs1 --layout global --dataset celeba --publish their_dit",
        "bench evaluate --weights sit.pt --format sit --model dit_xs1 --layout global --dataset celeba --label 1000",
        "bench evaluate --denoiser my_code.denoisers:best --dataset dead_leaves8 --subset 16 --recipe mini",
        "bench evaluate --denoiser my_edm:net --convention sigma --dataset cifar10 --metrics psnr,fid,memorisation --samples 50000",
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's id, its first digits, or its folder")
    quality_flags(parser)
    weights_flags(parser)
    registry_flag(parser)
    machine_flags(parser)
    kernel_flag(parser)
    records_flag(parser)
    json_flag(parser)


def evaluate(options: argparse.Namespace) -> int:
    """`bench evaluate`."""
    from benchmark import run as runs
    from benchmark.quality import evaluation as quality
    from benchmark.running.progress import Display

    if sum(given is not None for given in (options.run, options.weights, options.denoiser)) != 1:
        raise UsageError(
            "Name a finished run, or weights from elsewhere with --weights FILE --format FORMAT, or --denoiser: one of the three."
        )
    if options.weights or options.denoiser:
        return _evaluate_elsewhere(options)
    folder = run_folder(options.run)
    if not (folder / "record.json").exists():
        raise UsageError(f"The run {folder.name} is not finished, so there is nothing to score again. `bench run` finishes it.")
    rescore, metrics, request = wanted(options)
    place, search = place_of(options), registry.roots(options.registry)
    with Display(words=typed) as display:
        if metrics and request:
            result = quality.evaluate(folder, metrics, request, place, display, search, options.batch)
        if rescore:
            result = ran(lambda: runs.evaluate(folder, place, display, search))
    print_record(result, place, "scored again", json=options.json)
    return 0


def _evaluate_elsewhere(options: argparse.Namespace) -> int:
    from benchmark.running.progress import Display

    check_name(options.publish)
    place, search = place_of(options), registry.roots(options.registry)
    spec = spec_of(row_elsewhere(options)) if options.weights else None
    with Display(words=typed) as display:
        given = loaded_weights(options, spec, display) if spec else loaded_denoiser(options, display)
        result, path = score_loaded(given, place, display, search, options)
    print_record(result, place, "scored", json=options.json, path=path)
    return 0
