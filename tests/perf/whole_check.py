"""What `bench check` of everything takes, and what it cannot do without: `python -m tests.perf.whole_check`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmark.commands.output import print_table
from benchmark.declaring import registry
from benchmark.files import PROJECT, importing
from tests.perf.growth import Spent, spent
from tests.perf.measured import AT_LEAST_ONE

BARS = Spent(seconds=18.0, memory=1.3e9 / 2**20)
BUILDS = 3  # of every network: twice under one seed, once under another
FORWARD = (10, 2, 2, 2, 1)  # images in the passes that the rules take of every network without a gradient
BACKWARD = ("fp32", "bf16")  # passes of two images with the backward pass


@dataclass(frozen=True)
class Needed:
    """What the rules of all backbones need: CPU seconds of the imports, the counts, the builds and the passes; memory in MiB."""

    imports: float
    counts: float  # of FLOPs and memory, and the shape of the estimate, without weights
    builds: float
    passes: float
    imported: float  # the process, once every entry is loaded
    largest: float  # the weights of the largest network
    name: str  # of that network's entry

    @property
    def seconds(self) -> float:
        """Return the CPU seconds together."""
        return self.imports + self.counts + self.builds + self.passes

    @property
    def memory(self) -> float:
        """Return the least memory: a network that is saved, and the one that its weights are loaded into or the file that they are in."""
        return self.imported + 2 * self.largest


@dataclass(frozen=True)
class Whole:
    """`bench check` without a word, and what it cannot do without."""

    spent: Spent
    needed: Needed


def measure(repeat: int, told: Callable[[str], None] = lambda text: None) -> Whole:
    """Check everything of this checkout `repeat` times, each in processes of its own; return the medians."""
    runs, least = [], []
    for number in range(repeat):
        told(f"check of everything {number + 1} of {repeat}")
        runs.append(spent(("check",), PROJECT, PROJECT, ends=(0, 1)))  # 1: it was done, and found something
        words = [sys.executable, "-m", "tests.perf.whole_check", "--needed"]
        environment = os.environ | importing() | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True)
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            done.check_returncode()
        least.append(Needed(**json.loads(done.stdout)))
    least.sort(key=lambda one: one.seconds)
    seconds, memory = (statistics.median(getattr(one, name) for one in runs) for name in ("seconds", "memory"))
    return Whole(Spent(seconds, memory), least[len(least) // 2])


def needed() -> Needed:
    """Load every backbone, build it and take the passes that the rules take, in this process, on images of a few pixels."""
    import torch

    from benchmark.contributing.check_backbone import costs, shape_and_type
    from benchmark.contributing.trial import trial
    from benchmark.declaring.entries import load
    from benchmark.errors import NotRun

    torch.set_num_threads(1)
    models = {name: load(file).config for name, file in registry.entries("model").items()}
    imports, imported, sizes, spent = time.process_time(), resident(), {}, {"counts": 0.0, "builds": 0.0, "passes": 0.0}

    def count(what: str) -> None:
        spent[what] += time.process_time() - imports - sum(spent.values())

    for name, model in models.items():
        tried = trial(model)
        shape_and_type(tried), costs(tried)
        count("counts")
        try:
            for seed in range(BUILDS):
                network = tried.fresh(seed)
        except NotRun:  # what it is made of is not here
            continue
        count("builds")
        sizes[name] = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values()) / 2**20
        with torch.no_grad():
            for images in FORWARD:
                network(*tried.inputs(images))
        for precision in BACKWARD:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
                loss = network(*tried.inputs(2)).float().square().mean()
            if loss.requires_grad:
                loss.backward()
        del network, loss
        count("passes")
    largest = max(sizes, key=lambda name: sizes[name])
    return Needed(imports=imports, imported=imported, largest=sizes[largest], name=largest, **spent)


def resident() -> float:
    """Return the memory of this process in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def section(whole: Whole, repeat: int) -> list[str]:
    """Return the lines of the page on a check of everything."""
    least = whole.needed
    return [
        "## What a check of everything takes",
        "",
        f"`bench check`: every entry and every record; medians of {repeat} (`python -m tests.perf.whole_check`). Beside it what the rules "
        "of backbones cannot do without, each network in turn, by itself. Of the memory: the largest network's weights are there twice "
        "when they are loaded from a checkpoint.",
        "",
        "| | CPU | memory |",
        "|-|-|-|",
        f"| `bench check` | {whole.spent.seconds:.1f} s | {whole.spent.memory:,.0f} MiB |",
        f"| torch and the entries imported | {least.imports:.1f} s | {least.imported:,.0f} MiB |",
        f"| FLOPs, memory and shape of every network counted, without weights | {least.counts:.1f} s | |",
        f"| every network built {BUILDS} times; weights of the largest ({least.name}), twice | {least.builds:.1f} s | "
        f"{2 * least.largest:,.0f} MiB |",
        f"| {len(FORWARD)} forward passes of each, of {sum(FORWARD)} images together, and {len(BACKWARD)} of two images with the backward "
        f"pass | {least.passes:.1f} s | |",
        "",
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.whole_check", description=__doc__)
    parser.add_argument("--repeat", type=AT_LEAST_ONE, default=3, metavar="N", help="runs behind a median (default: 3)")
    parser.add_argument("--needed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.needed:
        print(json.dumps(vars(needed())))
        return 0
    whole = measure(options.repeat, lambda text: print(text, file=sys.stderr))
    least = whole.needed
    rows = [
        ("bench check", f"{whole.spent.seconds:.1f}", f"{whole.spent.memory:.0f}"),
        ("what it needs", f"{least.seconds:.1f}", f"{least.memory:.0f}"),
    ]
    print_table(f"everything checked, medians of {options.repeat}", ("what", "CPU, s", "MiB"), rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
