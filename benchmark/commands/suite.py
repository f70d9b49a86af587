"""`bench suite` and `bench reproduce`: the rows of a suite, their stages, and running them again."""

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
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import home, place_of, records_of
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT, PUBLISHED, is_checkout
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.suites.cost import Cost
    from benchmark.suites.reproduce import Bench


def add_suite(verbs: Any) -> None:
    """Add `bench suite` and its actions."""
    group = verbs.add_parser("suite", help="the rows of a suite, their cost, their DVC stages", description="The suites and their stages.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    show = command(
        actions,
        "show",
        suite_show,
        "the rows, what they cost, which are done",
        "bench suite show mini",
        "bench suite show paper_table1 --timing",
    )
    show.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")
    show.add_argument("--timing", action="store_true", help="time a few steps of every model here, for the hours on this machine")
    registry_flag(show)
    machine_flags(show)
    records_flag(show)
    json_flag(show)
    write = command(
        actions,
        "write",
        suite_write,
        "make the DVC stages of a suite: dvc.yaml and params.yaml, or pipelines/SUITE/",
        "bench suite write",
        "bench suite write paper_table1",
        "bench suite write --check",
    )
    write.add_argument("suite", metavar="SUITE", nargs="?", default="mini", help="a name from `bench list suites` (default: mini)")
    write.add_argument("--check", action="store_true", help="change nothing; fail where a file is not what the suites give")
    code = command(
        actions,
        "code",
        suite_code,
        "write the digests of the code that a suite's numbers rest on, for its DVC stages",
        "bench suite code mini",
    )
    code.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")
    verify = command(
        actions,
        "verify",
        suite_verify,
        "gather the verdicts of a reproduced suite and make its page",
        "bench suite verify mini",
    )
    verify.add_argument("suite", metavar="SUITE", help="a name from `bench list suites`")
    records_flag(verify)


def add_reproduce(verbs: Any) -> None:
    """Add `bench reproduce`."""
    parser = command(
        verbs,
        "reproduce",
        reproduce,
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


def suite_show(options: argparse.Namespace) -> int:
    """`bench suite show`."""
    from benchmark.declaring import entries
    from benchmark.running.progress import Display

    search = registry.roots(options.registry)
    rows = list(entries.load_suite(options.suite, search).rows())
    say(f"counting what the {len(rows)} rows of the suite {options.suite} cost", error=True)  # before torch is imported: at once
    from benchmark.suites.cost import H100_PEAK, H100_SHARE, costs, h100_said

    place = place_of(options)
    device = place.device if options.timing else None
    with Display(words=typed) as display:
        found = costs(rows, place.records, search=search, device=device, progress=display.bar("costs of the rows"))
    if options.json:
        print_json(
            {
                "suite": options.suite,
                "device": str(place.device),
                "h100_flop_per_s": H100_PEAK,
                "h100_share": H100_SHARE,
                "rows": [vars(one) | {"row": one.row._asdict()} for one in found],
                "total": _total(found),
            }
        )
        return 0
    lines: list[tuple[Any, ...]] = [
        (
            one.row.model,
            one.row.layout,
            one.row.dataset,
            one.row.recipe,
            one.row.subset,
            one.row.seed,
            *_said(vars(one), device),
            one.state,
        )
        for one in found
    ]
    total = _total(found)
    lines.append(
        (
            f"{total['rows']} rows",
            "",
            "",
            "",
            "",
            "",
            *_said(total, device),
            f"{total['done']} done, {duration(total['open_hours_h100'] * 3600)} to go (H100)",
        )
    )
    here = (f"here ({device})",) if device else ()
    columns = ("model", "layout", "dataset", "recipe", "N", "seed", "PFLOP", *here, "H100", "state")
    print_table(f"suite {options.suite}", columns, lines)
    say(
        "Training and PSNR; FID costs extra. Here: "
        + ("an estimate from a few steps, as good as the machine is idle. " if device else "not timed (--timing times a few steps). ")
        + f"H100: arithmetic, at {h100_said('fp32')}; at {h100_said('bf16')}; small networks reach less. "
        f"All of it trained in bf16: about {duration(total['hours_h100_bf16'] * 3600)}."
    )
    return 0


def suite_write(options: argparse.Namespace) -> int:
    """`bench suite write`."""
    from benchmark.suites import pipeline

    _in_checkout("The stages of a suite are files of a checkout")
    changed = pipeline.stale(PROJECT, options.suite) if options.check else pipeline.write(PROJECT, options.suite)
    for path in changed:
        say(f"{path}: {'not what the suites give' if options.check else 'written'}")
    if options.check and changed:
        raise BenchError(f"{len(changed)} of the generated files are stale. `bench suite write` makes them; commit them.")
    if not changed:
        say(f"The stages of {options.suite} are what the suites give.")
    return 0


def suite_code(options: argparse.Namespace) -> int:
    """`bench suite code`."""
    from benchmark.suites import pipeline

    _in_checkout("DVC's stages run in a checkout")
    for path in pipeline.write_code(options.suite, PROJECT):
        say(f"{path.read_text().strip()[:12]}  {near(path)}")
    return 0


def suite_verify(options: argparse.Namespace) -> int:
    """`bench suite verify`."""
    from benchmark.declaring import entries
    from benchmark.suites import reproduce as reproductions

    rows = list(entries.load_suite(options.suite).rows())
    page = reproductions.gather(options.suite, rows, home(), records_of(options), PUBLISHED)
    say(f"{len(rows)} rows of the suite {options.suite} have their verdicts. The page of this machine's numbers: {near(page)}")
    return 0


def reproduce(options: argparse.Namespace) -> int:
    """`bench reproduce`."""
    from benchmark.declaring import spec
    from benchmark.recording.agreement import SCORES
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
    committed_in = records_of(options)
    bench = _bench(options)
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
        scores = {name: {"fresh": getattr(result.fresh, name), "committed": getattr(result.committed, name, None)} for name in SCORES}
        print_json(reproductions.verdict(result) | {"tolerance": tolerance, "scores": scores})
    elif result.committed is None:
        say(
            f"{resolved.title}: gap {result.fresh.psnr_gap:.4f} dB. "
            "No record of this configuration is committed; the same "
            "command with --publish makes this one it."
        )
    else:
        apart = ", ".join(
            f"{name.removeprefix('psnr_')} {abs(getattr(result.fresh, name) - getattr(result.committed, name)):.4f}" for name in SCORES
        )
        say(
            f"{resolved.title}: gap {result.fresh.psnr_gap:.4f} dB, {result.committed.psnr_gap:.4f} dB "
            "in the committed record. "
            f"Apart, in dB: {apart}; allowed: {tolerance} of the gap, {2 * tolerance} of train and test."
        )
    return 0


def _bench(options: argparse.Namespace) -> "Bench":
    from benchmark.suites.reproduce import BUILD, Bench

    place = place_of(options)
    return Bench(home=place.home, records=place.home / BUILD / "records", device=place.device, checkpoint_seconds=place.checkpoint_seconds)


def _equivalent(options: argparse.Namespace, search: tuple[Path, ...]) -> int:
    from benchmark.declaring import entries, equivalence
    from benchmark.running.progress import Display
    from benchmark.suites.equivalent import prove

    _in_checkout("--equivalent writes the ledger of a checkout")
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


def _in_checkout(why: str) -> None:
    if not is_checkout():
        raise UsageError(f"{why}, and this is an installed package. Clone the project, then in its folder: pip install -e .")


def _total(found: "list[Cost]") -> dict[str, Any]:
    here = None if any(one.hours_here is None for one in found) else sum(one.hours_here or 0.0 for one in found)
    return {
        "rows": len(found),
        "done": sum(one.state == "done" for one in found),
        "training_flops": sum(one.training_flops for one in found),
        "hours_here": here,
        "hours_h100": sum(one.hours_h100 for one in found),
        "hours_h100_bf16": sum(one.hours_h100_bf16 for one in found),
        "open_hours_h100": sum(one.hours_h100 for one in found if one.state != "done"),
    }


def _said(facts: dict[str, Any], device: object) -> tuple[str, ...]:
    from benchmark.suites.cost import petaflops

    here = (duration(facts["hours_here"] * 3600),) if device else ()
    return petaflops(facts["training_flops"]), *here, duration(facts["hours_h100"] * 3600)
