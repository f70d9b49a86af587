"""`bench quality`, and the flags of `bench evaluate` that say which metrics and of which samples."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import command, json_flag, whole
from benchmark.commands.output import print_json, say
from benchmark.commands.samples import request_of, samples_flags, variance_flag
from benchmark.commands.words import typed
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.quality import Quality
    from benchmark.recording.record import Record, Score
    from benchmark.sampling import Request


def add(verbs: Any) -> None:
    """Add `bench quality`."""
    group = verbs.add_parser("quality", help="fetch the Inception weights of FID", description="The Inception weights of FID.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    parser = command(
        actions,
        "setup",
        setup,
        "fetch the published Inception weights, once; no run downloads anything",
        "bench quality setup",
        "bench quality setup --json",
    )
    json_flag(parser)


def quality_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of sample quality to `bench evaluate`."""
    parser.add_argument(
        "--metrics",
        metavar="LIST",
        default="psnr",
        help="psnr, fid, kid, is, prc (precision and recall), sfid, fd_randconv, memorisation; with commas (default: psnr)",
    )
    parser.add_argument(
        "--samples", type=whole(1, 10**12), metavar="N", default=50_000, help="samples of all metrics but psnr (default: 50000)"
    )
    samples_flags(parser, "ancestral")  # the protocol's
    variance_flag(parser)
    parser.add_argument(
        "--inception-weights",
        type=Path,
        metavar="FILE",
        help="the published weights (default: BENCH_INCEPTION_WEIGHTS, else where `bench quality setup` puts them)",
    )
    parser.add_argument(
        "--allow-other-weights", action="store_true", help="take weights that are not the published ones; no number is called FID"
    )
    parser.add_argument(
        "--allow-small", action="store_true", help="take too few samples or reference images; the scores are marked as small"
    )


def wanted(options: argparse.Namespace) -> "tuple[bool, Quality | None, Request | None]":
    """Return whether PSNR is asked for, and which metrics of which samples; None where there is none."""
    from benchmark import quality

    names = tuple(name.strip() for name in options.metrics.split(",") if name.strip())
    if not names:
        raise UsageError("--metrics is empty. For example: --metrics psnr,fid,kid.")
    metrics = quality.chosen(tuple(name for name in names if name != "psnr"))
    if not metrics:
        return True, None, None
    request = request_of(options, count=options.samples, flag="samples", variance=options.variance)
    scored = quality.Quality(
        metrics=metrics, weights=options.inception_weights, allow_small=options.allow_small, allow_other_weights=options.allow_other_weights
    )
    return "psnr" in names, scored, request


def score_rows(result: "Record") -> list[tuple[str, ...]]:
    """Return the scores of a record as rows of a table: value, sd, samples, and what they depend on."""
    rows: list[tuple[str, ...]] = []
    for name, score in sorted(result.scores.items()):
        value = f"{score.value:.4f}" + ("" if score.sd is None else f" ± {score.sd:.4f}")
        mark = ", small" if score.small else ""
        rows.append(
            (
                name,
                value,
                f"{score.samples:,}{mark}",
                _reference(score),
                score.extractor,
                score.sampling,
                score.version,
            )
        )
    return rows


def _reference(score: "Score") -> str:
    if score.null is not None:
        return f"over its null {score.null:.4f}"
    known = f", {score.reference_trained_on:,} trained on" if score.reference_trained_on is not None else ""
    return f"{score.reference_samples:,}{known}" if score.reference_samples else ""


def setup(options: argparse.Namespace) -> int:
    """`bench quality setup`."""
    from benchmark.quality import inception
    from benchmark.running.progress import Display

    with Display(words=typed) as display:
        path, fetched = inception.setup(display.bar("Inception weights, bytes"))
    if options.json:
        print_json({"path": str(path), "sha256": inception.PUBLISHED, "fetched": fetched})
    else:
        say(f"The Inception weights are at {path}, sha256 as published{'' if fetched else '; nothing to do'}.")
    return 0
