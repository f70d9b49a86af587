"""`bench reproduce`: running a committed row again, or one of each family whose code has changed."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    decibels,
    half_flag,
    json_flag,
    machine_flags,
    records_flag,
    registry_flag,
    seconds,
)
from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.place import in_checkout, place_of, records_of
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import UsageError

if TYPE_CHECKING:
    from benchmark.suites.reproduce import Bench, Reproduction


def add(verbs: Any) -> None:
    """Add `bench reproduce`."""
    parser = command(
        verbs,
        "reproduce",
        run,
        "run a row again under build/ and hold it against the committed record",
        "bench reproduce --model dit_mini --layout global --dataset dead_leaves8 --subset 16 --recipe mini",
        "bench reproduce --equivalent mini_biases",
    )
    for axis in ("model", "layout", "dataset", "recipe"):
        parser.add_argument(f"--{axis}", metavar="NAME", help=f"a name from `bench list {axis}s`")
    parser.add_argument("--subset", type=int, metavar="N", help="training images (default: what the recipe is made for)")
    parser.add_argument(
        "--equivalent",
        metavar="SUITE",
        help="run one row of each family of a suite's records whose code has changed since, and write into the ledger which are "
        "equal, the weights to the last bit (registry/equivalent_code.toml)",
    )
    parser.add_argument("--seed", type=int, metavar="K", default=0, help="(default: 0)")
    half_flag(parser)
    parser.add_argument(
        "--tolerance",
        type=decibels,
        metavar="DB",
        help="largest difference of the gap; twice that of PSNR train and test (default: 0.15)",
    )
    parser.add_argument("--publish", action="store_true", help="where no record of this row is committed, make this one it")
    parser.add_argument("--force", action="store_true", help="run anew, even where the same code has done it")
    parser.add_argument("--checkpoint-every", type=seconds, metavar="SECONDS", default=60.0, help="(default: 60)")
    registry_flag(parser)
    machine_flags(parser)
    records_flag(parser)
    json_flag(parser)


def run(options: argparse.Namespace) -> int:
    """`bench reproduce`."""
    from benchmark.declaring import spec
    from benchmark.running.progress import Display
    from benchmark.suites import reproduce as reproductions

    search = registry.roots(options.registry)
    if options.equivalent:
        return _equivalent(options, search)
    names = {axis: getattr(options, axis) for axis in spec.AXES}
    if missing := [name for name in names if getattr(options, name) is None]:
        raise UsageError(f"--{missing[0]} is missing: name a row, or a suite with --equivalent SUITE.")
    resolved = spec.resolve(names, subset=options.subset, seed=options.seed, half=options.half, search=search)
    tolerance = reproductions.TOLERANCE if options.tolerance is None else options.tolerance
    committed_in, bench = records_of(options), _bench(options)
    with Display(words=typed) as display:
        result = reproductions.reproduce(
            resolved,
            bench,
            display,
            committed_in=committed_in,
            tolerance=tolerance,
            publish=options.publish,
            force=options.force,
        )
    if options.json:
        print_json(_as_json(result, tolerance))
    else:
        say(f"{resolved.title}: {_in_words(result, tolerance)}")
    return 0


def _as_json(result: "Reproduction", tolerance: float) -> dict[str, Any]:
    from benchmark.recording.agreement import SCORES
    from benchmark.suites.reproduce import verdict

    scores = {name: {"fresh": getattr(result.fresh, name), "committed": getattr(result.committed, name, None)} for name in SCORES}
    return verdict(result) | {"tolerance": tolerance, "scores": scores}


def _in_words(result: "Reproduction", tolerance: float) -> str:
    from benchmark.recording.agreement import SCORES

    fresh, committed = result.fresh, result.committed
    if committed is None:
        return (
            f"gap {fresh.psnr_gap:.4f} dB. No record of this configuration is committed; the same command with --publish makes this one it."
        )
    apart = ", ".join(f"{name.removeprefix('psnr_')} {abs(getattr(fresh, name) - getattr(committed, name)):.4f}" for name in SCORES)
    return (
        f"gap {fresh.psnr_gap:.4f} dB, {committed.psnr_gap:.4f} dB in the committed record. "
        f"Apart, in dB: {apart}; allowed: {tolerance} of the gap, {2 * tolerance} of train and test."
    )


def _bench(options: argparse.Namespace) -> "Bench":
    from benchmark.suites.reproduce import BUILD, Bench

    place = place_of(options)
    return Bench(home=place.home, records=place.home / BUILD / "records", device=place.device, checkpoint_seconds=place.checkpoint_seconds)


def _equivalent(options: argparse.Namespace, search: tuple[Path, ...]) -> int:
    from benchmark.declaring import entries, equivalence
    from benchmark.running.progress import Display
    from benchmark.suites.equivalent import prove

    in_checkout("--equivalent writes the ledger of a checkout")
    rows = list(entries.load_suite(options.equivalent, search).rows())
    with Display(words=typed) as display:
        found = prove(rows, _bench(options), display, committed_in=records_of(options), search=search)
    if options.json:
        print_json([one._asdict() for one in found])
    else:
        lines = [(one.family, one.rows, one.outcome, one.row, one.note) for one in found]
        print_table(f"code of the records of {options.equivalent}", ("family", "records", "outcome", "row that was run", "note"), lines)
        if any(one.outcome == "equal" for one in found):
            say(f"Proofs are in {equivalence.LEDGER}; commit it with the records.")
    return 1 if any(one.outcome in ("different", "failed") for one in found) else 0
