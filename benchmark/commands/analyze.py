"""`bench analyze`: what finished runs do inside."""

import argparse
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.analysis import TIMESTEPS, WHATS
from benchmark.commands.flags import (
    command,
    json_flag,
    machine_flags,
    records_flag,
    refused,
    registry_flag,
    whole,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import home, place_of, run_folder
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.declaring.fields import FieldError
from benchmark.errors import BenchError, NotRun, UsageError, unknown
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.analysis.study import Request, Work
    from benchmark.recording.analyses import Analysis

AT_STEP = re.compile(r"(.+)_t(\d+)")
IN_PLACE = re.compile(r"(.+)_((?:layer|block|down|up)\d+|middle)")  # of the network


def add(verbs: Any) -> None:
    """Add `bench analyze`."""
    parser = command(
        verbs,
        "analyze",
        analyze,
        "what a finished run does inside: numbers, arrays and pictures under the run",
        "bench analyze 1a2b3c4d5e6f --what jacobian",
        "bench analyze 1a2b3c4d5e6f --what jacobian,receptive-field --t 50,500 --images 16",
        "bench analyze 1a2b3c4d5e6f --what theory",
        "bench analyze --all-of mini --what all --publish",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's id, its first digits, or its folder")
    parser.add_argument("--all-of", metavar="SUITE", help="every finished run of a suite instead of one")
    parser.add_argument(
        "--what",
        metavar="LIST",
        required=True,
        help="all, or with commas: " + "; ".join(f"{name} ({what.question})" for name, what in WHATS.items()),
    )
    parser.add_argument(
        "--images",
        type=int,
        metavar="K",
        help="images that are made noisy (default: "
        + ", ".join(f"{what.images} for {name}" for name, what in WHATS.items())
        + "; fewer of large images)",
    )
    parser.add_argument(
        "--t", metavar="LIST", default=",".join(map(str, TIMESTEPS)), help="diffusion steps, 0 to 999 (default: %(default)s)"
    )
    parser.add_argument("--noise-seed", type=whole(0, 10**15), default=0, metavar="K", help="of the noise (default: 0)")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="whose first images are taken (default: test)")
    parser.add_argument(
        "--leading",
        type=int,
        metavar="K",
        help="of the Jacobian only the leading K directions, by subspace iteration (default: the whole matrix where it fits, else 8)",
    )
    parser.add_argument(
        "--publish", action="store_true", help="put the JSON beside the records too, and of the first published seed of a row one picture"
    )
    parser.add_argument("--force", action="store_true", help="analyse anew what is there already")
    registry_flag(parser)
    machine_flags(parser)
    records_flag(parser)
    json_flag(parser)


def analyze(options: argparse.Namespace) -> int:
    """`bench analyze`."""
    from benchmark.analysis.study import Work
    from benchmark.running.progress import Display

    if (options.run is None) == (options.all_of is None):
        raise UsageError("Name one RUN, or a suite with --all-of SUITE. `bench list runs` names the runs.")
    requests = {what: _request(options, what) for what in _whats(options.what)}
    search = registry.roots(options.registry)
    folders = [run_folder(options.run)] if options.run else _folders(options.all_of, search)
    place = place_of(options)
    with Display(words=typed) as display:
        work = Work(place, display, search, options.force)
        found = [_one(folder, what, request, work, options) for folder in folders for what, request in requests.items()]
    if options.json:
        print_json([outcome for outcome, _ in found])
    elif options.run:
        for outcome, analysis in found:
            _print(outcome, analysis)
    else:
        rows = [tuple(str(outcome.get(key, "")) for key in ("run", "what", "state", "problem")) for outcome, _ in found]
        print_table(f"suite {options.all_of}", ("run", "what", "state", ""), rows)
    return 1 if any(outcome["state"] == "failed" for outcome, _ in found) else 0


def _one(
    folder: Path, what: str, request: "Request", work: "Work", options: argparse.Namespace
) -> "tuple[dict[str, Any], Analysis | None]":
    """Make one analysis; among many, one that fails does not end the others."""
    from benchmark.analysis import study
    from benchmark.declaring.fields import to_json
    from benchmark.recording import record

    outcome: dict[str, Any] = {"run": folder.name, "what": what}
    try:
        if options.images is None:
            request = replace(request, images=study.default_images(folder, what, work.search))
        analysis = study.analyse(folder, what, request, work)
        written = [folder / "analysis" / f"{what}.json"]
        if options.publish:
            of = record.read(folder / "record.json")
            if of.half:
                raise UsageError(f"The run {folder.name} was trained on half {of.half}, and runs on halves have no row on the page.")
            if not record.path_of(work.place.records, of.row).exists():
                raise UsageError(f"The run {folder.name} has no record under {work.place.records}, so that nothing stands beside it.")
            written += study.publish(folder, what, of, work.place.records.parent)
    except (BenchError, NotRun) as problem:
        if options.run:
            raise UsageError(str(problem)) if isinstance(problem, NotRun) else problem from None
        state = "does not apply" if isinstance(problem, NotRun) else "failed"
        work.display.note(f"{what} of {folder.name}: {problem}")
        return outcome | {"state": state, "problem": typed(str(problem))}, None
    return outcome | {"state": "done", "files": [str(path) for path in written]} | to_json(analysis), analysis


def _print(outcome: dict[str, Any], analysis: "Analysis | None") -> None:
    """Print the numbers of one analysis, diffusion steps side by side, then those of each place in the network."""
    if analysis is None:
        return
    placed = {name: found.groups() for name in analysis.numbers if (found := IN_PLACE.fullmatch(name))}
    matched = {name: AT_STEP.fullmatch(name) for name in analysis.numbers if name not in placed}
    steps = sorted({int(found[2]) for found in matched.values() if found})
    names = dict.fromkeys(found[1] if found else name for name, found in matched.items())
    rows = [
        (
            name,
            *(f"{analysis.numbers[key]:.4g}" if (key := f"{name}_t{step}") in analysis.numbers else "" for step in steps),
            f"{analysis.numbers[name]:.4g}" if name in analysis.numbers else "",
        )
        for name in names
    ]
    title = f"{analysis.what} of {outcome['run']} ({' '.join(map(str, analysis.spec.values()))}), {duration(analysis.seconds)}"
    print_table(title, (analysis.what, *(f"t = {step}" for step in steps), ""), rows)
    if placed:
        columns, places = (tuple(dict.fromkeys(parts)) for parts in zip(*placed.values(), strict=True))
        print_table(
            "", ("", *columns), [(place, *(f"{analysis.numbers[f'{column}_{place}']:.4g}" for column in columns)) for place in places]
        )
    for path in outcome["files"]:
        say(f"Written: {near(Path(path))}")


def _whats(names: str) -> list[str]:
    wanted = list(WHATS) if names == "all" else [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in WHATS:
            raise unknown("analysis", name, WHATS, "`--what all` makes all of them.")
    if not wanted:
        raise UsageError(f"--what is empty. There is: {', '.join(WHATS)}, or all.")
    return wanted


def _request(options: argparse.Namespace, what: str) -> "Request":
    from benchmark.analysis.study import Request

    try:
        timesteps = tuple(int(word) for word in options.t.split(","))
    except ValueError:
        raise UsageError(f"--t {options.t} must be diffusion steps with commas between them, for example --t 50,500.") from None
    try:
        images = WHATS[what].images if options.images is None else options.images  # of small images; `_one` knows the run's
        return Request(images=images, timesteps=timesteps, seed=options.noise_seed, split=options.split, leading=options.leading)
    except FieldError as problem:
        raise refused(problem, {"timesteps": "t", "seed": "noise-seed"}) from None


def _folders(suite: str, search: tuple[Path, ...]) -> list[Path]:
    """Return the folders of a suite's finished runs, in its order."""
    from benchmark.declaring import entries, spec

    rows = list(entries.load_suite(suite, search).rows())
    ids = [
        spec.resolve({axis: getattr(row, axis) for axis in spec.AXES}, subset=row.subset, seed=row.seed, search=search).id for row in rows
    ]
    folders = [home() / "runs" / one for one in dict.fromkeys(ids)]
    finished = [folder for folder in folders if (folder / "record.json").exists()]
    if not finished:
        raise UsageError(f"No run of the suite {suite} is finished here. `bench sweep {suite}` makes them.")
    return finished
