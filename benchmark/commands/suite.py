"""`bench suite`: the rows of a suite, what they cost, and their stages."""

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.commands.flags import (
    command,
    json_flag,
    machine_flags,
    records_flag,
    registry_flag,
    suite_argument,
)
from benchmark.commands.output import near, print_json, print_table, say
from benchmark.commands.place import home, in_checkout, place_of, records_of
from benchmark.commands.words import typed
from benchmark.declaring import registry
from benchmark.errors import BenchError
from benchmark.files import PROJECT, PUBLISHED
from benchmark.recording.said import duration

if TYPE_CHECKING:
    import torch

    from benchmark.declaring.row import Row
    from benchmark.suites.cost import Cost


def add(verbs: Any) -> None:
    """Add `bench suite` and its actions."""
    group = verbs.add_parser("suite", help="the rows of a suite, their cost, their DVC stages", description="The suites and their stages.")
    actions = group.add_subparsers(metavar="ACTION", required=True)
    _add_show(actions)
    _add_write(actions)
    _add_code(actions)
    _add_verify(actions)


def _add_show(actions: Any) -> None:
    parser = command(
        actions,
        "show",
        suite_show,
        "the rows, what they cost, which are done",
        "bench suite show mini",
        "bench suite show paper_table1 --timing",
    )
    suite_argument(parser)
    parser.add_argument("--timing", action="store_true", help="time a few steps of every model here, for the hours on this machine")
    registry_flag(parser)
    machine_flags(parser)
    records_flag(parser)
    json_flag(parser)


def _add_write(actions: Any) -> None:
    parser = command(
        actions,
        "write",
        suite_write,
        "make the DVC stages of a suite: dvc.yaml and params.yaml, or pipelines/SUITE/",
        "bench suite write",
        "bench suite write paper_table1",
        "bench suite write --check",
    )
    parser.add_argument("suite", metavar="SUITE", nargs="?", default="mini", help="a name from `bench list suites` (default: mini)")
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file is not what the suites give")


def _add_code(actions: Any) -> None:
    parser = command(
        actions,
        "code",
        suite_code,
        "write the digests of the code that a suite's numbers rest on, for its DVC stages",
        "bench suite code mini",
    )
    suite_argument(parser)


def _add_verify(actions: Any) -> None:
    parser = command(
        actions,
        "verify",
        suite_verify,
        "gather the verdicts of a reproduced suite and make its page",
        "bench suite verify mini",
    )
    suite_argument(parser)
    records_flag(parser)


def suite_show(options: argparse.Namespace) -> int:
    """`bench suite show`."""
    from benchmark.declaring import entries
    from benchmark.running.progress import Display

    search = registry.roots(options.registry)
    rows = list(entries.load_suite(options.suite, search).rows())
    say(f"counting what the {len(rows)} rows of the suite {options.suite} cost", error=True)  # before torch is imported: at once
    from benchmark.suites.cost import costs

    place = place_of(options)
    device = place.device if options.timing else None
    with Display(words=typed) as display:
        found = costs(rows, place.records, search=search, device=device, progress=display.bar("costs of the rows"))
    if options.json:
        print_json(_costs_json(options.suite, found, place.device))
    else:
        _print_costs(options.suite, found, device)
    return 0


def suite_write(options: argparse.Namespace) -> int:
    """`bench suite write`."""
    from benchmark.suites import pipeline

    in_checkout("The stages of a suite are files of a checkout")
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

    in_checkout("DVC's stages run in a checkout")
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


def _costs_json(suite: str, found: "list[Cost]", device: "torch.device") -> dict[str, Any]:
    from benchmark.suites.cost import H100_PEAK, H100_SHARE

    return {
        "suite": suite,
        "device": str(device),
        "h100_flop_per_s": H100_PEAK,
        "h100_share": H100_SHARE,
        "rows": [vars(one) | {"row": one.row._asdict()} for one in found],
        "total": _total(found),
    }


def _print_costs(suite: str, found: "list[Cost]", device: "torch.device | None") -> None:
    """Print a line for every row and one for all; `device` is where steps were timed, None where none was."""
    from benchmark.suites.cost import LAUNCH, h100_said

    total, timed = _total(found), device is not None
    lines = [(*_row_cells(one.row), *_cost_cells(vars(one), timed), one.state) for one in found]
    open_hours = duration(total["open_hours_h100"] * 3600)
    lines.append(
        (f"{total['rows']} rows", "", "", "", "", "", *_cost_cells(total, timed), f"{total['done']} done, {open_hours} to go (H100)")
    )
    here = (f"here ({device})",) if timed else ()
    columns = ("model", "layout", "dataset", "recipe", "N", "seed", "PFLOP", *here, "H100", "state")
    print_table(f"suite {suite}", columns, lines)
    say(
        "Training and PSNR; FID costs extra. Here: "
        + ("an estimate from a few steps, as good as the machine is idle. " if timed else "not timed (--timing times a few steps). ")
        + f"H100: arithmetic, at {h100_said('fp32')}; at {h100_said('bf16')}; of small networks the start of "
        f"a kernel every {LAUNCH * 1e6:.0f} us, assumed. "
        f"All of it trained in bf16: about {duration(total['hours_h100_bf16'] * 3600)}."
    )


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


def _row_cells(row: "Row") -> tuple[Any, ...]:
    return row.model, row.layout, row.dataset, row.recipe, row.subset, row.seed


def _cost_cells(cost: Mapping[str, Any], timed: bool) -> tuple[str, ...]:
    from benchmark.suites.cost import petaflops

    here = (duration(cost["hours_here"] * 3600),) if timed else ()
    return petaflops(cost["training_flops"]), *here, duration(cost["hours_h100"] * 3600)
