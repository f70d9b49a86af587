"""`bench submit` and `bench verify`: the door through which a row comes in."""

import argparse
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import command, json_flag, machine_flags, minutes, records_flag, registry_flag
from benchmark.commands.output import near, print_json, say
from benchmark.commands.place import place_of, records_of, run_folder
from benchmark.declaring import registry
from benchmark.errors import UsageError
from benchmark.files import PROJECT, home, write_bytes
from benchmark.recording.levels import LEVELS, PROVES

if TYPE_CHECKING:
    from benchmark.contributing.verify import Bench
    from benchmark.recording.verification import Level

LEVEL_MINUTES = 30.0


def add_submit(verbs: Any) -> None:
    """Add `bench submit`."""
    parser = command(
        verbs,
        "submit",
        submit,
        "make one folder of finished runs for the board: records, entries with their code, who, and how to run them",
        'bench submit 1a2b3c4d5e6f --name my_bias --author "A. Person" --licence Apache-2.0 --registry .',
        'bench submit RUN OTHER --name my_bias --author "A. Person" --licence MIT --paper https://arxiv.org/abs/2410.21273',
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="finished runs, by id or folder (`bench list runs`)")
    parser.add_argument("--name", required=True, help="what the submission is called: small letters, digits, '_' and '-'")
    parser.add_argument("--author", required=True, help="whom the board names")
    parser.add_argument("--licence", required=True, help="of the entries, their code and the weights")
    parser.add_argument("--paper", default="", metavar="URL", help="a page about it")
    parser.add_argument("--weights-at", default="", metavar="URL", help="where the weights can be had")
    parser.add_argument("--out", type=Path, metavar="DIR", help="the folder of submissions (default: submissions/ of the checkout)")
    registry_flag(parser)
    json_flag(parser)


def add_verify(verbs: Any) -> None:
    """Add `bench verify`."""
    parser = command(
        verbs,
        "verify",
        verify,
        "check a submission or a record in four rising levels: " + "; ".join(f"{name}: {PROVES[name]}" for name in LEVELS),
        "bench verify submissions/my_bias",
        "bench verify leaderboard/records/mini/dead_leaves8/dit_mini-global-n16-s0.json --level rebuilt",
        "bench verify submissions/my_bias --publish",
        "bench verify --changed origin/main",
    )
    parser.add_argument("targets", nargs="*", type=Path, metavar="SUBMISSION|RECORD", help="a submission's folder, or a record's file")
    parser.add_argument(
        "--changed", metavar="REF", help="the submissions and records that differ from this commit, in place of naming them"
    )
    parser.add_argument("--level", choices=LEVELS, default="retrained", help="the highest level to try (default: retrained)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="the weights of the record (default: those of the run that made it)")
    parser.add_argument(
        "--minutes",
        type=minutes,
        default=LEVEL_MINUTES,
        metavar="M",
        help=f"train again only what took at most this long where it was made (default: {LEVEL_MINUTES:g})",
    )
    parser.add_argument("--publish", action="store_true", help="put what holds on the board: the records, and how far each was verified")
    records_flag(parser)
    registry_flag(parser)
    machine_flags(parser)
    json_flag(parser)


def submit(options: argparse.Namespace) -> int:
    """`bench submit`."""
    from benchmark.contributing import submit as door

    folders = [run_folder(name) for name in dict.fromkeys(options.runs)]
    wanted = door.Wanted(options.name, options.author, options.licence, options.paper, options.weights_at)
    out = (options.out or home() / "submissions").resolve()
    made = door.submit(folders, wanted, registry.roots(options.registry), out, home())
    where = out / made.name
    following = [f"bench verify {near(where)}", f"git add {near(where)} && git commit && git push, and open a pull request"]
    if options.json:
        print_json({"folder": str(where), "rows": [row.record for row in made.rows], "next": following})
        return 0
    say(f"Written: {near(where)}")
    say(f"A reviewer will see {near(where / 'README.md')}: {len(made.rows)} row(s) by {' '.join(made.author.split())}, every check passed,")
    own = ", ".join(one.path for one in made.sources)
    say(f"  own entries and code: {own or 'none'}; weights: {options.weights_at or 'nowhere to be had (the row can still be retrained)'}.")
    say("Then type:")
    for line in following:
        say(f"  {line}")
    return 0


def verify(options: argparse.Namespace) -> int:
    """`bench verify`."""
    targets = _targets(options)
    if options.weights and len(targets) != 1:
        raise UsageError("--weights FILE belongs to one record: name that one.")
    told = [outcome for target in targets for outcome in _verified(target, options)]
    if options.json:
        print_json(told)
    elif not told:
        say(f"No submission and no record differs from {options.changed}.")
    failed = sum(one["failed"] for one in told)
    if told and not options.json:
        say(f"{len(told)} record(s), {failed} that do not hold" if failed else f"{len(told)} record(s), nothing that does not hold")
    return 1 if failed else 0


def _verified(target: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Verify one submission or record, print what was found, and publish it where that is asked."""
    from benchmark.contributing import submit as door
    from benchmark.contributing import verify as levels
    from benchmark.errors import BenchError
    from benchmark.recording import errors, record, submission, verification
    from benchmark.running.progress import Display

    inside = target.is_dir()
    found = []
    if inside and (wrong := door.problems(target)):
        raise BenchError(f"{near(target)}: {'; '.join(wrong)}.")
    paths = [target / submission.RECORDS / row.record for row in submission.read(target).rows] if inside else [target]
    bench = _bench(target if inside else None, options)
    for path in paths:
        with Display() as display:
            made, told, steps = levels.verify(path.resolve(), bench, display)
        failed = any(step.outcome == "failed" for step in steps)
        if options.publish and made and told and not failed:
            board = records_of(options)
            to = record.path_of(board, made.row, made.half)
            record.write(made, to)
            if (kept := errors.beside(path)).is_file() and kept.resolve() != errors.beside(to).resolve():
                write_bytes(errors.beside(to), kept.read_bytes())
            verification.write(told, verification.path_of(board.parent, made))
        if not options.json:
            _print(path, told.reached if told and not failed else None, steps)
        stages = [{"level": step.name, "outcome": step.outcome, "note": step.note} for step in steps]
        found.append({"record": str(path), "reached": told.reached if told else None, "failed": failed, "levels": stages})
    return found


def _bench(folder: Path | None, options: argparse.Namespace) -> "Bench":
    from benchmark.contributing.verify import Bench

    own = [folder / "registry"] if folder and (folder / "registry").is_dir() else []
    search = registry.roots(own or options.registry)  # a submission brings all that it needs: nothing else is looked at
    return Bench(place_of(options), search, options.weights, options.minutes, options.level)


def _print(path: Path, reached: str | None, steps: "list[Level]") -> None:
    say(f"{near(path.resolve())}: {reached or 'does not hold'}")
    for step in steps:
        say(f"  {step.outcome:8}{step.name:11}{PROVES[step.name]}")
        say(f"  {'':19}{' '.join(step.note.split())}")


def _targets(options: argparse.Namespace) -> list[Path]:
    if bool(options.targets) == bool(options.changed):
        raise UsageError("Name submissions or records, or say --changed REF: one of the two.")
    targets = [target if target.exists() else home() / target for target in options.targets]
    for target, asked in zip(targets, options.targets, strict=True):
        if not target.exists():
            raise UsageError(
                f"There is nothing at {asked}, here or under {home()}. `ls submissions leaderboard/records` shows what there is."
            )
    return targets or _changed(options.changed)


def _changed(ref: str) -> list[Path]:
    """Return the submissions and records that differ between the common ancestor with `ref` and the working tree."""
    asked = ["git", "diff", "--name-only", "--diff-filter=d", "-z", "--merge-base", ref, "--", "submissions", "leaderboard/records"]
    done = subprocess.run(asked, cwd=PROJECT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UsageError(f"--changed {ref}: git says {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'nothing'}")
    fresh = subprocess.run(
        ["git", "ls-files", "-z", "--others", "--exclude-standard", "--", "submissions", "leaderboard/records"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [Path(name) for name in (done.stdout + fresh.stdout).split("\0") if name]
    folders = {PROJECT / "submissions" / path.parts[1] for path in paths if path.parts[0] == "submissions" and len(path.parts) > 2}
    brought = {row for folder in folders for row in _rows(folder)}
    records = [path for path in paths if path.parts[0] == "leaderboard" and path.suffix == ".json"]
    return sorted(folders) + [
        PROJECT / path for path in sorted(records) if path.relative_to("leaderboard/records").as_posix() not in brought
    ]


def _rows(folder: Path) -> list[str]:
    """Return the records that a submission brings: the board's copies of them are verified with it."""
    from benchmark.recording import record, submission

    rows = [row.record for row in submission.read(folder).rows]
    board = PROJECT / "leaderboard" / "records"
    there = folder / submission.RECORDS
    return [row for row in rows if (board / row).is_file() and record.read(board / row) == record.read(there / row)]
