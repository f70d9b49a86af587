"""`bench run` and `bench evaluate`: one row."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    half_flag,
    json_flag,
    kernel_flag,
    label,
    machine_flags,
    records_flag,
    registry_flag,
    seconds,
    step_flags,
    store_flag,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import home, place_of, run_folder, training_words
from benchmark.commands.quality import quality_flags, score_rows, wanted
from benchmark.commands.weights import evaluate_denoiser, evaluate_weights, weights_flags
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import BenchError, UsageError
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.declaring.spec import Spec
    from benchmark.recording.record import Record
    from benchmark.run import Place


def add_run(verbs: Any) -> None:
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
    spec_flags(parser)
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


def spec_flags(parser: argparse.ArgumentParser) -> None:
    """Add what names a row: the axes, --subset, --seed, --half, --recipe, --set, --record."""
    for axis, text in (("model", "network"), ("layout", "attention layout"), ("dataset", "images")):
        parser.add_argument(f"--{axis}", metavar="NAME", help=f"{text}: a name from `bench list {axis}s`")
    parser.add_argument(
        "--subset", type=int, metavar="N", help="training images (default: what the recipe is made for, as `bench list recipes` says)"
    )
    parser.add_argument("--seed", type=int, metavar="K", default=0, help="shuffle, initialisation and noise (default: 0)")
    half_flag(parser)
    parser.add_argument("--recipe", metavar="NAME", default="paper", help="budget and evaluation (default: paper)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="AXIS.FIELD=VALUE",
        dest="overrides",
        help="change one field for this run; such a run is kept out of the leaderboard",
    )
    parser.add_argument("--record", type=Path, metavar="FILE", help="run what this record describes, instead of naming it")


def add_evaluate(verbs: Any) -> None:
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
    )
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's id, its first digits, or its folder")
    quality_flags(parser)
    weights_flags(parser)
    registry_flag(parser)
    machine_flags(parser)
    kernel_flag(parser)
    records_flag(parser)
    json_flag(parser)


def run(options: argparse.Namespace) -> int:
    """`bench run`."""
    from benchmark import run as runs
    from benchmark.running.processes import joined
    from benchmark.running.progress import Display

    spec = spec_of(options)
    place = place_of(options)
    if options.dry_run:
        return _dry_run(spec, place, options)
    mirrors: list[Any] = []
    with joined(place.device) as processes, Display(silent=not processes.first, words=typed) as display:
        place = replace(place, processes=processes)
        done, title = None if options.force else runs.finished(spec, place), f"{spec.title}, recipe {spec.recipe.name} ({spec.id})"

        def started(folder: Path) -> None:
            display.note(title)
            _mirror(options, folder, mirrors)

        with _mirrored(mirrors, display):
            result = _ran(lambda: runs.run(spec, place, display, force=options.force, started=started))
        if done:
            display.note(f"{title}: already finished")
    if processes.first:
        _print_record(result, place, options, "already finished" if done else "finished")
    return 0


def _ran(run: "Callable[[], Record]") -> "Record":
    """Run, and say what to type where other code has made what is there."""
    from benchmark.declaring.equivalence import OtherCode

    try:
        return run()
    except OtherCode as problem:
        raise BenchError(
            f"{problem} --force trains it again; --accept-old-code takes it as it is; `bench reproduce --equivalent SUITE` shows, row by "
            "row of a suite, whether this code gives the same numbers, and writes it down."
        ) from None


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
            result = _ran(lambda: runs.evaluate(folder, place, display, search))
    _print_record(result, place, options, "scored again")
    return 0


def _evaluate_elsewhere(options: argparse.Namespace) -> int:
    if options.metrics != "psnr":
        raise UsageError("--metrics: a network from elsewhere is scored by PSNR alone.")
    options.record = options.half = None  # the whole pool
    place = place_of(options)
    result, path = evaluate_weights(options, spec_of(options), place) if options.weights else evaluate_denoiser(options, place)
    _print_record(result, place, options, "scored", path)
    return 0


def spec_of(options: argparse.Namespace) -> "Spec":
    from benchmark.declaring import spec
    from benchmark.recording import record

    search = registry.roots(options.registry)
    if options.record:
        if options.model or options.layout or options.dataset or options.overrides:
            raise UsageError("--record says what to run; --model, --layout, --dataset and --set cannot stand beside it.")
        stored = record.read(options.record)
        if "steps" not in stored.spec["recipe"]["config"]:
            raise UsageError(f"{options.record} is of a network trained elsewhere: there is no recipe to run.")
        return spec.from_record(stored.spec, overrides=stored.overrides, assumed=stored.assumed, search=search)
    names = {axis: getattr(options, axis) for axis in ("model", "layout", "dataset", "recipe")}
    if missing := [axis for axis, name in names.items() if not name]:
        known = ", ".join(registry.entries(missing[0], search))
        raise UsageError(
            f"--{missing[0]} is missing. There is: {known}. For example: bench run --model dit_mini "
            "--layout local_3x3_head --dataset dead_leaves8 --subset 16 --recipe mini"
        )
    return spec.resolve(names, subset=options.subset, seed=options.seed, half=options.half, overrides=options.overrides, search=search)


def _dry_run(spec: "Spec", place: "Place", options: argparse.Namespace) -> int:
    from benchmark import run as runs
    from benchmark.images import datasets
    from benchmark.networks import cost
    from benchmark.networks.attention import pairs_scored
    from benchmark.scoring import ahead
    from benchmark.suites.cost import H100_PEAK, H100_SHARE
    from benchmark.training.beforehand import check_trainable, short_of_memory

    check_trainable(spec)
    ahead.check(spec, place)
    total, trainable = cost.parameters(cost.on_meta(spec))
    recipe = spec.recipe.config
    seconds = None
    if not options.no_timing:
        say(f"timing a few steps of {spec.title} on {place.device} (--no-timing: none)", error=True)
        seconds = cost.step_seconds(spec, runs.build(spec).to(place.device), place.device)
    training_flops = 3 * cost.forward_flops(spec) * recipe.batch * (recipe.steps if trainable else 0)
    facts = {
        "id": spec.id,
        "parameters": total,
        "parameters_trainable": trainable,
        "forward_flops": cost.forward_flops(spec),
        "training_flops": training_flops,
        "training_memory_bytes": cost.training_memory_bytes(spec),
        "estimated_seconds": None if seconds is None else seconds * recipe.steps,
        "assumed_h100_seconds": training_flops / (H100_PEAK[recipe.precision] * H100_SHARE),
        "device": str(place.device),
        "data": typed(datasets.status(datasets.packed_name(spec), place.home, spec.dataset.config)[1]),
        "attention": [layer.window or (type(layer.pattern).__name__ if layer.pattern else "global") for layer in spec.attention],
        "attention_pairs": list(pairs_scored(cost.on_meta(spec))),
        "assumed": list(spec.assumed),
        "state": "finished" if runs.finished(spec, place) else "not finished",
    }
    for short in filter(None, (short_of_memory(spec), datasets.short_of_images(spec, place.home))):
        say(typed(short), error=True)
    if options.json:
        print_json(facts | {"spec": spec.to_json()})
        return 0
    said: dict[str, Any] = facts | {
        "parameters": f"{total:,}, {trainable:,} trainable",
        "forward_flops": f"{facts['forward_flops'] / 1e9:.3f} GFLOP an image",
        "training_flops": f"{facts['training_flops'] / 1e15:.3g} PFLOP",
        "training_memory_bytes": f"about {facts['training_memory_bytes'] / 2**30:.2f} GiB",
        "estimated_seconds": "not timed"
        if seconds is None
        else f"about {duration(seconds * recipe.steps)} of training on {place.device}, an estimate from a few timed steps",
        "assumed_h100_seconds": f"about {duration(facts['assumed_h100_seconds'])} of training on one H100, at {H100_SHARE:.0%} of its "
        "peak: arithmetic, not measured",
        "attention": " ".join(map(str, facts["attention"])) or "none that a layout addresses",
        "assumed": "\n".join(spec.assumed) or "nothing",
    }
    del said["parameters_trainable"]
    names = {"estimated_seconds": "time here", "assumed_h100_seconds": "time on a GPU", "training_memory_bytes": "training memory"}
    from benchmark.declaring.fields import to_json

    rows = [
        (f"{axis}.{field}", str(value))
        for axis in ("model", "layout", "dataset", "recipe")
        for field, value in [("name", getattr(spec, axis).name), *to_json(getattr(spec, axis).config).items()]
    ]
    rows += [("subset", str(spec.subset)), ("seed", str(spec.seed)), *([("half", spec.half)] if spec.half else [])]
    print_table("the spec", ("field", "value"), rows)
    print_table(
        "what it would cost", ("fact", "value"), [(names.get(key, key.replace("_", " ")), str(value)) for key, value in said.items()]
    )
    return 0


def _print_record(result: "Record", place: "Place", options: argparse.Namespace, status: str, path: Path | None = None) -> None:
    from benchmark.declaring.fields import to_json
    from benchmark.recording import record

    published = record.path_of(place.records, result.row, result.half)
    path = path or (place.home / "runs" / result.id / "record.json" if result.overrides else published)
    if options.json:
        print_json(
            {
                "id": result.id,
                "status": status,
                "record": str(path),
                "psnr_train": result.psnr_train,
                "psnr_test": result.psnr_test,
                "psnr_gap": result.psnr_gap,
                "weights_sha256": result.weights_sha256,
                "scores": to_json(result.scores),
            }
        )
        return
    rows = [(str(p.step), f"{p.loss:.4f}", f"{p.psnr_train:.3f}", f"{p.psnr_test:.3f}", f"{p.psnr_gap:.3f}") for p in result.trajectory]
    score = (
        f"final, K={result.psnr.images_test}, {len(result.psnr.diffusion_steps)} diffusion steps",
        "",
        f"{result.psnr_train:.3f}",
        f"{result.psnr_test:.3f}",
        f"{result.psnr_gap:.3f}",
    )
    title = result.row.title + (f", half {result.half}" if result.half else "")
    print_table(title, ("step", "loss", "PSNR train, dB", "PSNR test, dB", "gap, dB"), [*rows, score])
    if scores := score_rows(result):
        print_table("sample quality", ("score", "value", "samples", "reference", "extractor", "sampling", "version"), scores)
    say(f"The record: {near(path)}{_note(path == published, status, result.half)}")
    if status == "already finished" and result.training.steps and not (place.home / "runs" / result.id / "checkpoints").is_dir():
        say(f"Its weights are not here. {training_words(path, result.training.wall_seconds)}")


def _note(published: bool, status: str, half: str | None) -> str:
    """Say why a record is not on the leaderboard, where it is not."""
    if half:
        return f" (half {half}: `bench compare` holds it against the other half; not on the leaderboard)"
    if published:
        return ""
    return (
        " (not on the leaderboard: --publish NAME puts it there)" if status == "scored" else " (not on the leaderboard, because of --set)"
    )
