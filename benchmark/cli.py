# PYTHON_ARGCOMPLETE_OK
"""The command line: parses, runs one command, turns what went wrong into one paragraph and an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from benchmark import __version__
from benchmark.commands import (
    analyze,
    check,
    data,
    doctor,
    door,
    evaluate,
    leaderboard,
    listing,
    new,
    pca,
    profile,
    quality,
    report,
    reproduce,
    run,
    sample,
    site,
    suite,
    sweep,
    tracking,
)
from benchmark.commands.faults import failure, interruptible, no_silent_end, refuse, told
from benchmark.commands.flags import examples
from benchmark.commands.output import print_json, results_alone
from benchmark.errors import UsageError
from benchmark.recording.said import visible
from benchmark.running.collector import look_seldom


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code (docs/reliability.md).

    0 done, 1 a run or a check failed, 2 wrong usage or unknown name, 130 stopped by a person.

    Without any word it prints the help, and returns 0.
    """
    top = parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what could be typed next
        from benchmark.commands.completion import complete

        complete(top)
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        top.print_help()
        return 0
    options = top.parse_args(words)
    look_seldom()
    as_json = getattr(options, "json", False)
    try:
        with interruptible(), results_alone(as_json), no_silent_end():
            return options.function(options)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as problem:  # nothing ends in a traceback: foreign code may raise whatever it likes
        message, code = told(problem)
        return refuse(message, code, as_json)


def parser() -> argparse.ArgumentParser:
    """Return the command line of `bench`."""
    top = _Parser(
        prog="bench",
        description="Which inductive biases let diffusion models generalize from little data?",
        epilog=examples(
            "bench list models",
            "bench run --model dit_mini --layout global --dataset dead_leaves8 --subset 16 --recipe mini",
            "bench sweep mini --jobs 2",
            "bench leaderboard",
        ),
    )
    top.add_argument("--version", action="version", version=f"bench {__version__}")
    verbs = top.add_subparsers(metavar="COMMAND", required=True)
    for add in (
        listing.add,
        run.add,
        evaluate.add,
        profile.add,
        quality.add,
        sample.add_sample,
        sample.add_compare,
        analyze.add,
        data.add,
        sweep.add,
        check.add,
        new.add,
        pca.add,
        suite.add,
        reproduce.add,
        leaderboard.add,
        report.add,
        site.add,
        doctor.add,
        door.add_submit,
        door.add_verify,
        tracking.add,
    ):
        add(verbs)
    return top


class _Help(argparse.HelpFormatter):
    """What a command does is broken between words where the terminal ends; the lines of its examples stay as they are typed."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith(examples()) else super()._fill_text(text, width, indent)


class _Parser(argparse.ArgumentParser):
    """A parser whose commands, made by the same class, take no half-written flag."""

    def __init__(self, **given: Any) -> None:
        settings: dict[str, Any] = {"formatter_class": _Help, "allow_abbrev": False}
        super().__init__(**settings | given)

    def error(self, message: str) -> NoReturn:
        """End with usage and message; what was typed is shown, not obeyed."""
        if "--json" in sys.argv:
            print_json(failure(message, UsageError.exit_code))
        super().error(visible(message))


if __name__ == "__main__":
    sys.exit(main())
