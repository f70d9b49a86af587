"""Which samples of a run: the flags that say it, the same in every command that draws some."""

import argparse
from typing import TYPE_CHECKING

from benchmark.commands.flags import refused, whole
from benchmark.declaring.fields import FieldError
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.sampling import Request
    from benchmark.sampling.samplers import Variance

SAMPLERS = ("ancestral", "ddim", "dpm", "euler", "heun")
# Of sampling.DEFAULT_STEPS, which imports torch.
DEFAULT_STEPS_SAID = "ancestral 250, ddim 50, dpm 20, euler 50, heun 25"


def samples_flags(parser: argparse.ArgumentParser, sampler: str) -> None:
    """Add --sampler, --sampling-steps, --noise-seed, --precision and --batch."""
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default=sampler, help=f"dpm is DPM-Solver++ 2M, euler and heun solve the flow (default: {sampler})"
    )
    parser.add_argument(
        "--sampling-steps",
        type=int,
        metavar="S",
        help=f"network evaluations; heun evaluates twice a step (default: {DEFAULT_STEPS_SAID})",
    )
    parser.add_argument(
        "--noise-seed", type=whole(0, 10**15), default=0, metavar="K", help="of the noise that images are made from (default: 0)"
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        default="fp32",
        help="of the network's passes: part of what the samples are, and said beside their scores; tf32 on a GPU (default: fp32)",
    )
    parser.add_argument("--batch", type=whole(1, 1_000_000), metavar="B", help="images drawn at once (default: 256 on cuda, 32 on cpu)")


def variance_flag(parser: argparse.ArgumentParser) -> None:
    """Add --variance."""
    parser.add_argument(
        "--variance",
        choices=("beta_tilde", "beta"),
        default="beta_tilde",
        help="noise of ancestral's steps; beta is that of the official DiT code without learned variance (default: beta_tilde)",
    )


def request_of(
    options: argparse.Namespace,
    *,
    count: int,
    flag: str = "count",
    eta: float = 0.0,
    variance: "Variance" = "beta_tilde",
    guidance: float | None = None,
) -> "Request":
    """Return `count` samples as the flags of samples_flags ask for them; `flag` is what says how many."""
    from benchmark.sampling import DEFAULT_STEPS, Request

    if options.batch is not None and options.batch < 1:
        raise UsageError(f"--batch {options.batch} must be at least 1.")
    steps = DEFAULT_STEPS[options.sampler] if options.sampling_steps is None else options.sampling_steps
    try:
        return Request(
            count=count,
            sampler=options.sampler,
            steps=steps,
            eta=eta,
            variance=variance,
            guidance=guidance,
            seed=options.noise_seed,
            precision=options.precision,
        )
    except FieldError as problem:
        raise refused(problem, {"count": flag, "steps": "sampling-steps", "seed": "noise-seed"}) from None
