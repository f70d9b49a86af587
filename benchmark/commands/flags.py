"""Flags that several commands share."""

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmark.declaring.fields import FieldError
from benchmark.errors import UsageError


def examples(*lines: str) -> str:
    """Return the epilogue of a help page."""
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def command(verbs: Any, name: str, function: Callable[[argparse.Namespace], int], text: str, *lines: str) -> argparse.ArgumentParser:
    """Add a command that calls `function(options) -> exit code`; `lines` are its examples."""
    parser = verbs.add_parser(name, help=text, description=text, epilog=examples(*lines))
    parser.set_defaults(function=function)
    return parser


def seconds(text: str) -> float:
    """Read a time of a flag, from 0 to a year."""
    return _bounded(text, 366 * 86_400.0, "seconds")


def decibels(text: str) -> float:
    """Read a difference in dB of a flag, from 0 to 100."""
    return _bounded(text, 100.0, "dB")


def minutes(text: str) -> float:
    """Read a time of a flag in minutes, from 0 to a year."""
    return _bounded(text, 366 * 1_440.0, "minutes")


def whole(least: int, most: int) -> Callable[[str], int]:
    """Return what reads a whole number of a flag, within bounds."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number") from None
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text[:40]} must be from {least:,} to {most:,}")
        return value

    return read


def above_zero(text: str) -> float:
    """Read a number above 0."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text[:40]} must be above 0")
    return value


def label(text: str) -> str:
    """Read a name that is kept beside a run: one line of characters that can be seen, 100 at most."""
    if not text.isprintable() or not text.strip() or len(text) > 100:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} must be up to 100 characters that can be seen")
    return text


def _bounded(text: str, most: float, unit: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of {unit}") from None
    if not 0 <= value <= most:  # nor is NaN
        raise argparse.ArgumentTypeError(f"{text} must be from 0 to {most:,.0f} {unit}")
    return value


def refused(problem: FieldError, flags: Mapping[str, str]) -> UsageError:
    """Return the error of a field as that of its flag; `flags` names those that are called otherwise."""
    field, _, rest = str(problem).partition(" ")
    return UsageError(f"--{flags.get(field, field)} {rest}.")


def suite_argument(parser: argparse.ArgumentParser) -> None:
    """Add SUITE."""
    parser.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")


def registry_flag(parser: argparse.ArgumentParser) -> None:
    """Add --registry."""
    parser.add_argument(
        "--registry",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="a folder of entries of your own (backbones/, layouts/, …); may be repeated",
    )


def half_flag(parser: argparse.ArgumentParser) -> None:
    """Add --half."""
    parser.add_argument(
        "--half",
        choices=("a", "b"),
        help="the images of one half of the pool: a and b share none, for `bench compare` (a run on a half is not on the leaderboard)",
    )


def machine_flags(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    parser.add_argument("--threads", type=int, metavar="T", help="CPU threads (default: torch's choice)")


def step_flags(parser: argparse.ArgumentParser) -> None:
    """Add --micro-batch, --recompute and --attention-kernel: how a step is computed, which changes no number beyond rounding."""
    parser.add_argument(
        "--micro-batch",
        type=int,
        metavar="B",
        help="images at a time, the gradient being that of the whole batch (default: all; halved when memory runs out)",
    )
    parser.add_argument("--recompute", action="store_true", help="compute activations again in the backward pass, which saves memory")
    parser.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        help="an error where torch has no deterministic algorithm, so that the same machine repeats the run to the last bit "
        "(default: on a CPU; on a GPU it is slower, and the run repeats to rounding without)",
    )
    kernel_flag(parser)


def kernel_flag(parser: argparse.ArgumentParser) -> None:
    """Add --attention-kernel."""
    parser.add_argument(
        "--attention-kernel", metavar="NAME", default="auto", help="force one way to compute attention (default: the fastest)"
    )


def records_flag(parser: argparse.ArgumentParser) -> None:
    """Add --records."""
    parser.add_argument("--records", type=Path, metavar="DIR", help="the folder of records (default: leaderboard/records)")


def store_flag(parser: argparse.ArgumentParser) -> None:
    """Add --store."""
    parser.add_argument(
        "--store",
        metavar="URI",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow's tracking store (default: sqlite beside the runs, or MLFLOW_TRACKING_URI)",
    )


def json_flag(parser: argparse.ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
