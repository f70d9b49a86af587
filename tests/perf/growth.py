"""What commands that read every record take as the records become more: `python -m tests.perf.growth`.

The committed records stand in a folder of their own, again and again under further seeds, until there are as many as asked for. Every
command runs in a process of its own, in turn with the same command of another checkout where `--against` names one; its CPU seconds and
its peak memory are the kernel's. Pages are made into an empty home ("first"), and then again where nothing changed ("again").
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmark.commands.output import print_table
from benchmark.declaring.spec import spec_id
from benchmark.files import PROJECT
from benchmark.recording import errors, record
from benchmark.recording.record import Record
from benchmark.running.progress import Display
from tests.perf.measured import AT_LEAST_ONE

Told = Callable[[int, int, str], None]

SIZES = (500, 1000)
COMMANDS = {
    "leaderboard, first": ("leaderboard",),
    "leaderboard, again": ("leaderboard",),
    "report paper, first": ("report", "paper"),
    "report paper, again": ("report", "paper"),
    "check": ("check", "{records}"),
}
# A process counts as its own the memory of the one that started it, so that a small one starts what is measured.
_SMALL = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
APART = 1000  # seeds between a record and its copy: more than any that was run


@dataclass(frozen=True)
class Spent:
    """CPU seconds and peak memory (MiB) of one process and of those that it waited for."""

    seconds: float
    memory: float


@dataclass(frozen=True)
class Reading:
    """What the instrument's own reading of a record takes, CPU milliseconds: the record, and the errors beside it held against it."""

    record: float
    errors: float


@dataclass(frozen=True)
class Growth:
    """A command of a checkout on fewer and on more records, medians; and what one record more takes."""

    command: str
    checkout: str
    fewer: Spent
    more: Spent
    milliseconds: float


def copies(committed: Sequence[Record]) -> Iterator[tuple[Record, int]]:
    """Yield the records, and then again and again their copies under further seeds, each with what was added to its seed."""
    for turn in range(sys.maxsize):
        for one in committed:
            yield one, APART * turn


def moved(one: Record, by: int) -> Record:
    """Return a record as if it were of another seed, and its peers with it."""
    spec = one.spec | {"seed": one.spec["seed"] + by}
    members = one.membership
    if members:
        members = replace(members, peers=tuple(replace(peer, seed=peer.seed + by) for peer in members.peers))
    return replace(one, spec=spec, id=spec_id(spec), membership=members)


def fill(folder: Path, source: Path, count: int) -> None:
    """Write `count` records under a folder, each with the errors of its images where those it is copied from has some."""
    committed = [one for one in record.read_all(source) if one.row.seed < APART]
    for (first, by), _ in zip(copies(committed), range(count), strict=False):
        one = moved(first, by)
        path, beside = record.path_of(folder, one.row, one.half), errors.beside(record.path_of(source, first.row, first.half))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.text_of(one), encoding="utf-8")
        if beside.is_file():
            peers = {
                f"peer {seed}": f"peer {seed + by}" for seed in (peer.seed for peer in (first.membership.peers if first.membership else ()))
            }
            matrices = {peers.get(name, name): matrix for name, matrix in errors.read(beside).items()}
            errors.write(errors.beside(path), matrices, one.id, one.psnr.diffusion_steps)


def spent(words: Sequence[str], checkout: Path, home: Path, ends: Sequence[int] = (0,)) -> Spent:
    """Run `bench` of a checkout in a home; raise CalledProcessError where it ends with another exit code than these."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1", "BENCH_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _SMALL, sys.executable, "-m", "benchmark.cli", *words]
    status, seconds, memory = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    if status not in ends:
        raise subprocess.CalledProcessError(status, ["bench", *words])
    return Spent(seconds, memory / (2**20 if sys.platform == "darwin" else 2**10))


def emptied(home: Path) -> None:
    """Leave nothing in a home but its records: pages and kept pictures are made anew."""
    for path in [*home.iterdir(), *(home / "leaderboard").iterdir()]:
        if path.is_dir() and path.name not in ("leaderboard", "records"):
            shutil.rmtree(path)
        elif path.is_file():
            path.unlink()


def measure(checkouts: Sequence[Path], repeat: int, told: Told = lambda done, total, what: None) -> tuple[list[Growth], Reading]:
    """Measure every command of every checkout on fewer and on more copies of the committed records, in turn, `repeat` times.

    And what reading the fewer takes in this process.
    """
    with tempfile.TemporaryDirectory() as folder:
        homes = {size: Path(folder, str(size)) for size in SIZES}
        for size, home in homes.items():
            fill(home / "leaderboard" / "records", PROJECT / "leaderboard" / "records", size)
        found = _measured(checkouts, repeat, homes, told)
        return found, reading(homes[SIZES[0]] / "leaderboard" / "records", repeat)


def reading(records: Path, repeat: int) -> Reading:
    """Measure what reading the records under a folder takes, and the errors beside those that have some; milliseconds a record."""
    paths, spent = sorted(records.rglob("[!.]*.json")), []
    for _ in range(repeat):
        began = time.process_time()
        read = [record.read(path) for path in paths]
        between = time.process_time()
        for one, path in zip(read, paths, strict=True):
            if (beside := errors.beside(path)).is_file():
                errors.disagreements(one, errors.read(beside))
        spent.append((between - began, time.process_time() - between))
    return Reading(*(1e3 * statistics.median(column) / len(paths) for column in zip(*spent, strict=True)))


def _measured(checkouts: Sequence[Path], repeat: int, homes: Mapping[int, Path], told: Told) -> list[Growth]:
    found: dict[tuple[str, Path, int], list[Spent]] = {}
    turns = [(place, size, checkout) for place in range(repeat) for size in SIZES for checkout in checkouts]
    for number, (_, size, checkout) in enumerate(turns):
        emptied(homes[size])
        for command, words in COMMANDS.items():
            told(number, len(turns), f"{command} of {size} records")
            records = str(homes[size] / "leaderboard" / "records")
            found.setdefault((command, checkout, size), []).append(
                spent([word.format(records=records) for word in words], checkout, homes[size])
            )
    told(len(turns), len(turns), "")
    return [
        _growth(command, checkout, [found[command, checkout, size] for size in SIZES]) for command in COMMANDS for checkout in checkouts
    ]


def _growth(command: str, checkout: Path, measured: Sequence[Sequence[Spent]]) -> Growth:
    fewer, more = (
        Spent(statistics.median(one.seconds for one in runs), statistics.median(one.memory for one in runs)) for runs in measured
    )
    return Growth(command, str(checkout), fewer, more, 1e3 * (more.seconds - fewer.seconds) / (SIZES[1] - SIZES[0]))


def section(found: Sequence[Growth], read: Reading, repeat: int) -> list[str]:
    """Return the lines of the page on how commands grow with the records."""
    return [
        "## What a record more costs",
        "",
        f"The committed records, copied under further seeds up to {SIZES[0]} and to {SIZES[1]}; CPU seconds and peak memory of the whole "
        f"command, medians of {repeat} (`python -m tests.perf.growth`). *First* draws every picture; *again* finds the numbers, the code "
        "and the libraries of all pictures unchanged and draws none.",
        "",
        f"| command | {SIZES[0]} records | {SIZES[1]} records | a record more | memory |",
        "|-|-|-|-|-|",
        *(
            f"| `bench {one.command.replace(', ', '`, ') if ', ' in one.command else one.command + '`'} | {one.fewer.seconds:.2f} s | "
            f"{one.more.seconds:.2f} s | {one.milliseconds:.2f} ms | {one.more.memory:.0f} MiB |"
            for one in found
        ),
        "",
        f"Of that a record takes {read.record:.2f} ms to be read and held, field by field, to its types, in every command; a check reads "
        f"the errors of its images too, and whether they give its curves: {read.errors:.2f} ms.",
        "",
    ]


def main(words: list[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.growth", description=__doc__)
    parser.add_argument("--repeat", type=AT_LEAST_ONE, default=10, metavar="N", help="runs behind a median (default: 10)")
    parser.add_argument("--against", type=Path, metavar="CHECKOUT", help="measure the commands of this checkout too, in turn")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(words)
    checkouts = [*([options.against.resolve()] if options.against else []), PROJECT]
    with Display() as display:
        found, read = measure(checkouts, options.repeat, display.bar("measuring"))
    if options.json:
        print(json.dumps({"growth": [asdict(one) for one in found], "reading": asdict(read)}, indent=1))
    else:
        rows = [
            (
                one.command,
                one.checkout,
                *(f"{side.seconds:.2f}" for side in (one.fewer, one.more)),
                f"{one.milliseconds:.2f}",
                f"{one.more.memory:.0f}",
            )
            for one in found
        ]
        titles = ("command", "of", *(f"s, {size}" for size in SIZES), "ms a record", "MiB")
        print_table(f"CPU time, medians of {options.repeat}", titles, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
