"""What a run of the mini track takes, part by part: `python -m tests.perf.mini_run`.

Each run is `bench run` in a process of its own, in an empty home, so that its images are packed too. The process keeps two clocks, and
changes the part that they count for where the run goes from one function to the next.
"""

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmark.commands.output import print_table
from benchmark.files import PROJECT, importing
from tests.perf.measured import AT_LEAST_ONE

AXES = {"model": "dit_mini", "layout": "local_3x3_head", "dataset": "dead_leaves8", "recipe": "mini"}
SUBSET = 16
BAR = 24.0  # seconds
START, REST, PACKING, STEPS, SCORING, RECORD, TRACKING = PARTS = (
    "start and imports",
    "checks, digests, the run's folder",
    "packing of the images, once",
    "steps",
    "scoring, along the way and at the end",
    "record and picture",
    "MLflow, written by a process beside it",
)


@dataclass(frozen=True)
class Mini:
    """A run: seconds on the clock and of the CPU by part, those of the processes that it waits for among them."""

    clock: Mapping[str, float]
    cpu: Mapping[str, float]
    steps: int
    alone: float  # CPU seconds of a step's matrix products, attention and GELU, each by itself, all steps together
    use: float  # of the FLOP/s of a large matrix product, over the steps

    @property
    def seconds(self) -> float:
        """Return the CPU seconds of the whole."""
        return sum(self.cpu.values())


class Watch:
    """Seconds on the clock and of the CPU, counted for one part at a time."""

    def __init__(self, began: float) -> None:
        """Begin with the first part, at a time on the clock; the CPU's began with the process."""
        self.clock, self.cpu = (dict.fromkeys(PARTS, 0.0) for _ in range(2))
        self._parts, self._since = [START], (began, 0.0)

    @staticmethod
    def now() -> tuple[float, float]:
        """Return the time on the clock, and the CPU seconds of this process and of those that it has waited for."""
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.time(), time.process_time() + children.ru_utime + children.ru_stime

    def tick(self) -> None:
        """Count what has passed for the part that is on."""
        now = self.now()
        for counted, before, after in zip((self.clock, self.cpu), self._since, now, strict=True):
            counted[self._parts[-1]] += after - before
        self._since = now

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        """Count for a part, then again for the one before."""
        self.tick()
        self._parts.append(part)
        try:
            yield
        finally:
            self.tick()
            self._parts.pop()

    def time(self, where: Any, name: str, part: str) -> None:
        """Count what a function of a module or a class takes for a part."""
        timed = getattr(where, name)

        @functools.wraps(timed)
        def call(*given: Any, **named: Any) -> Any:
            with self.on(part):
                return timed(*given, **named)

        setattr(where, name, call)


def run(began: float) -> dict[str, Any]:
    """Run the row in this process, which began at that time; return what each part took."""
    watch = Watch(began)
    from benchmark import cli
    from benchmark import run as composition
    from benchmark.recording.tracking import Mirror
    from benchmark.scoring import trajectory

    watch.time(composition, "run", REST)
    watch.time(composition, "load_subset", PACKING)
    watch.time(composition, "train_measured", STEPS)
    for name in ("score", "measure"):
        watch.time(composition if name == "score" else trajectory, name, SCORING)
    for name in ("record_of", "save", "publish"):
        watch.time(composition, name, RECORD)
    watch.time(Mirror, "finish", TRACKING)
    named = [word for axis, value in AXES.items() for word in (f"--{axis}", value)]
    with open(os.devnull, "w") as nowhere:
        sys.stdout, out = nowhere, sys.stdout
        code = cli.main(["run", *named, "--subset", str(SUBSET)])
        sys.stdout = out
    watch.tick()
    return {"code": code, "clock": watch.clock, "cpu": watch.cpu}


def measure(repeat: int, told: Callable[[str], None] = lambda text: None) -> Mini:
    """Run the row `repeat` times, each in an empty home; return the medians, part by part, and what bounds the steps."""
    runs = []
    for number in range(repeat):
        told(f"mini run {number + 1} of {repeat}")
        with tempfile.TemporaryDirectory() as home:
            words = [sys.executable, "-m", "tests.perf.mini_run", "--child", repr(time.time())]
            environment = os.environ | importing() | {"BENCH_HOME": home, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(words, cwd=PROJECT, env=environment, capture_output=True, text=True)
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                done.check_returncode()
        runs.append(json.loads(done.stdout))
    clock, cpu = ({part: statistics.median(one[kind][part] for one in runs) for part in PARTS} for kind in ("clock", "cpu"))
    steps, alone, use = bound()
    return Mini(clock, cpu, steps, steps * alone, use * steps / cpu[STEPS])


def bound() -> tuple[int, float, float]:
    """Return the steps of the run; of one step the seconds of its parts alone, and those that its FLOPs would take as one large product."""
    import torch

    from benchmark.declaring.spec import resolve
    from benchmark.networks.cost import forward_flops
    from tests.perf.bounds import medians, parts_alone

    spec = resolve(AXES, subset=SUBSET, seed=0)
    recipe, side = spec.recipe.config, spec.images.resolution // spec.model.config.patch
    left, right = torch.randn(8192, 1024), torch.randn(1024, 1024)
    product = medians({"product": lambda: left @ right}, 5)["product"] / (2 * 8192 * 1024 * 1024)
    parts = parts_alone(spec.model.config, spec.attention, side, torch.float32, recipe.batch, repeat=200)
    return recipe.steps, parts.seconds, 3 * recipe.batch * forward_flops(spec) * product


def section(mini: Mini, repeat: int) -> list[str]:
    """Return the lines of the page on a mini run."""
    return [
        "## What a mini run takes",
        "",
        f"`bench run` of {AXES['model']}, {AXES['layout']}, {AXES['dataset']}, {SUBSET} images, recipe {AXES['recipe']}, in an empty home; "
        f"medians of {repeat}, part by part (`python -m tests.perf.mini_run`). What other processes do (reading images, MLflow) counts "
        "where the run waits for them. The rows of a sweep share one start and the packed images.",
        "",
        "| part | on the clock | CPU |",
        "|-|-|-|",
        *(f"| {part} | {mini.clock[part]:.1f} s | {mini.cpu[part]:.1f} s |" for part in PARTS),
        f"| together | {sum(mini.clock.values()):.1f} s | {mini.seconds:.1f} s |",
        "",
        f"A step runs at {mini.use:.0%} of the FLOP/s of a large matrix product. The matrix products, attention and GELU of {mini.steps:,} "
        f"steps, each repeated by itself, take {mini.alone:.1f} CPU s: on 64 tokens of 32 numbers an operation is mostly its call.",
        "",
    ]


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.mini_run", description=__doc__)
    parser.add_argument("--repeat", type=AT_LEAST_ONE, default=3, metavar="N", help="runs behind a median (default: 3)")
    parser.add_argument("--child", type=float, metavar="TIME", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.child is not None:
        found = run(options.child)
        print(json.dumps(found))
        return int(found["code"])
    mini = measure(options.repeat, functools.partial(print, file=sys.stderr))
    rows = [(part, f"{mini.clock[part]:.2f}", f"{mini.cpu[part]:.2f}") for part in PARTS]
    title = f"a mini run, medians of {options.repeat}; {mini.use:.0%} of the matmul peak, products alone {mini.alone:.1f} s"
    print_table(title, ("part", "clock, s", "CPU, s"), [*rows, ("together", f"{sum(mini.clock.values()):.2f}", f"{mini.seconds:.2f}")])
    return 0


if __name__ == "__main__":
    sys.exit(main())
