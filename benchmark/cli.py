"""The commands. Every heavy import (torch, mlflow, matplotlib) waits inside the command that needs it."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmark import commands
from benchmark.errors import BenchError
from benchmark.fields import FieldError

AXIS_WORDS = ("models", "layouts", "datasets", "recipes", "suites", "runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0 done, 1 a run or a check failed, 2 wrong usage or unknown name, 130 interrupted."""
    options = parser().parse_args(arguments)
    try:
        return options.command(options)
    except (BenchError, FieldError) as problem:
        print(f"bench: {problem}", file=sys.stderr)
        return getattr(problem, "exit_code", 1)
    except BrokenPipeError:  # the reader of our output (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as problem:
        print(f"bench: {problem.filename or 'a file'}: {problem.strerror or problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: stopped. The same command resumes from the last checkpoint.", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """Return the command line of `bench`."""
    top = _Parser(prog="bench", description="Which inductive biases let diffusion models generalize from little data?",
                  epilog=_examples("bench list models", "bench run --model dit_mini --layout global --dataset dead_leaves8 "
                                   "--subset 16 --recipe mini", "bench sweep mini --jobs 2", "bench leaderboard"))
    verbs = top.add_subparsers(metavar="COMMAND", required=True)
    _list(verbs)
    _run(verbs)
    _evaluate(verbs)
    _data(verbs)
    _sweep(verbs)
    _check(verbs)
    _leaderboard(verbs)
    _tracking(verbs)
    return top


class _Parser(argparse.ArgumentParser):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)


def _examples(*lines: str) -> str:
    return "examples:\n" + "\n".join(f"  {line}" for line in lines)


def _command(verbs: Any, name: str, function: Any, text: str, *examples: str) -> argparse.ArgumentParser:
    command = verbs.add_parser(name, help=text, description=text, epilog=_examples(*examples))
    command.set_defaults(command=function)
    return command


def _list(verbs: Any) -> None:
    command = _command(verbs, "list", commands.list_entries, "what can be compared, and what has been run",
                       "bench list", "bench list layouts", "bench list runs --json")
    command.add_argument("what", nargs="?", choices=AXIS_WORDS, help="only these (default: all but runs)")
    _registry(command)
    _json(command)


def _run(verbs: Any) -> None:
    command = _command(verbs, "run", commands.run, "train and score one row; the same command again resumes it",
                       "bench run --model dit_xs1 --layout local_head --dataset lsun_church",
                       "bench run --model dit_mini --layout local_3x3_head --dataset dead_leaves8 --subset 16 --recipe mini",
                       "bench run --model dit_mini --layout global --dataset dead_leaves8 --recipe mini --set recipe.steps=500",
                       "bench run --record leaderboard/records/mini/dead_leaves8/dit_mini-global-n16-s0.json --force")
    for axis, text in (("model", "backbone"), ("layout", "attention layout"), ("dataset", "images")):
        command.add_argument(f"--{axis}", metavar="NAME", help=f"{text}: a name from `bench list {axis}s`")
    command.add_argument("--subset", type=int, metavar="N", default=10_000, help="training images (default: 10000)")
    command.add_argument("--seed", type=int, metavar="K", default=0, help="shuffle, initialisation and noise (default: 0)")
    command.add_argument("--recipe", metavar="NAME", default="paper", help="budget and evaluation (default: paper)")
    command.add_argument("--set", action="append", default=[], metavar="AXIS.FIELD=VALUE", dest="overrides",
                         help="change one field for this run; such a run is kept out of the leaderboard")
    command.add_argument("--record", type=Path, metavar="FILE", help="run what this record describes, instead of naming it")
    command.add_argument("--dry-run", action="store_true", help="print the resolved spec and what it would cost; run nothing")
    command.add_argument("--force", action="store_true", help="run anew, dropping the run's checkpoints and record")
    command.add_argument("--checkpoint-every", type=float, metavar="SECONDS", default=60.0, help="(default: 60)")
    command.add_argument("--suite", metavar="NAME", help="the suite this row belongs to, for tracking")
    _registry(command)
    _machine(command)
    _records(command)
    _store(command)
    command.add_argument("--no-track", action="store_true", help="keep this run out of MLflow; `bench track sync` adds it later")
    _json(command)


def _evaluate(verbs: Any) -> None:
    command = _command(verbs, "evaluate", commands.evaluate, "score the checkpoint of a finished run again, without training",
                       "bench evaluate 1a2b3c4d5e6f", "bench evaluate runs/1a2b3c4d5e6f --device cuda")
    command.add_argument("run", metavar="RUN", help="a run's id, its first digits, or its folder")
    _registry(command)
    _machine(command)
    _records(command)
    _json(command)


def _data(verbs: Any) -> None:
    group = verbs.add_parser("data", help="add, list, show and verify the images", description="The images of the datasets.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    add = _command(actions, "add", commands.data_add, "pack the images of a dataset, once",
                   "bench data add natural32 --root ~/pictures/cifar10", "bench data add lsun_church --root /data/lsun")
    add.add_argument("name", metavar="NAME", help="a name from `bench list datasets`")
    add.add_argument("--root", type=Path, metavar="PATH", help="the folder that holds the images")
    add.add_argument("--skip-corrupt", action="store_true", help="leave out files that cannot be read, and record their names")
    add.add_argument("--limit", type=int, metavar="N", help="pack only the first N images in the order of their names")
    _registry(add)
    _json(add)
    listing = _command(actions, "list", commands.data_list, "which datasets are packed here", "bench data list")
    _registry(listing)
    _json(listing)
    show = _command(actions, "show", commands.data_show, "what a packed dataset holds", "bench data show natural32")
    show.add_argument("name", metavar="NAME")
    _json(show)
    verify = _command(actions, "verify", commands.data_verify, "compare packed images with their manifest, byte by byte",
                      "bench data verify", "bench data verify natural32")
    verify.add_argument("name", nargs="*", metavar="NAME", help="(default: every packed dataset)")
    _json(verify)


def _sweep(verbs: Any) -> None:
    command = _command(verbs, "sweep", commands.sweep, "run every row of a suite that is not finished",
                       "bench sweep mini --jobs 2", "bench sweep small --dry-run")
    command.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")
    command.add_argument("--jobs", type=int, metavar="J", default=None, help="rows at a time (default: one per core, one per GPU)")
    command.add_argument("--dry-run", action="store_true", help="print the rows and which are finished; run nothing")
    command.add_argument("--force", action="store_true", help="run every row anew")
    _registry(command)
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    _records(command)
    _store(command)
    command.add_argument("--no-track", action="store_true", help="keep these runs out of MLflow for now")
    _json(command)


def _check(verbs: Any) -> None:
    command = _command(verbs, "check", commands.check, "hold entries and records to their contract",
                       "bench check", "bench check registry/backbones/dit_xs1.gin", "bench check leaderboard/records")
    command.add_argument("files", nargs="*", type=Path, metavar="FILE",
                         help="records (.json), entries (.gin) or folders of them (default: all of the project's)")
    _registry(command)
    _json(command)


def _leaderboard(verbs: Any) -> None:
    command = _command(verbs, "leaderboard", commands.leaderboard, "make the page and its plots from the records, and print it",
                       "bench leaderboard", "bench leaderboard --check", "bench leaderboard --records runs/demo/records")
    command.add_argument("--check", action="store_true", help="change nothing; fail where the page is not what the records give")
    command.add_argument("--out", type=Path, metavar="DIR", help="where the page goes (default: beside the records)")
    _records(command)
    _json(command)


def _tracking(verbs: Any) -> None:
    ui = _command(verbs, "ui", commands.ui, "open the MLflow UI on the project's runs", "bench ui", "bench ui --port 5001")
    ui.add_argument("--host", default="127.0.0.1", help="(default: 127.0.0.1)")
    ui.add_argument("--port", type=int, default=5000, help="(default: 5000)")
    _store(ui)
    group = verbs.add_parser("track", help="bring MLflow up to date", description="MLflow is a mirror of the runs.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    sync = _command(actions, "sync", commands.track_sync, "replay into MLflow what it has missed",
                    "bench track sync", "bench track sync 1a2b3c4d5e6f --store http://127.0.0.1:5000")
    sync.add_argument("runs", nargs="*", metavar="RUN", help="(default: every run)")
    _store(sync)
    _json(sync)


def _registry(command: argparse.ArgumentParser) -> None:
    command.add_argument("--registry", action="append", type=Path, default=[], metavar="DIR",
                         help="a folder of entries of your own (backbones/, layouts/, …); may be repeated")


def _machine(command: argparse.ArgumentParser) -> None:
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, … (default: auto)")
    command.add_argument("--threads", type=int, metavar="T", help="CPU threads (default: torch's choice)")


def _records(command: argparse.ArgumentParser) -> None:
    command.add_argument("--records", type=Path, metavar="DIR", help="the folder of records (default: leaderboard/records)")


def _store(command: argparse.ArgumentParser) -> None:
    command.add_argument("--store", metavar="URI", default=os.environ.get("MLFLOW_TRACKING_URI"),
                         help="MLflow's tracking store (default: sqlite beside the runs, or MLFLOW_TRACKING_URI)")


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print the result as JSON")




if __name__ == "__main__":
    sys.exit(main())
