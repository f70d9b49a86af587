"""How fast attention and the training step are, side by side with stock PyTorch: `python -m tests.perf.speed`.

Every quantity is measured in turn with what it is held against, again and again, so that whatever else the machine does
falls on both; a ratio is the ratio of the medians.
"""

import argparse
import copy
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from benchmark.commands.output import print_table
from benchmark.contract import Attention, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.files import PROJECT, write_text
from benchmark.networks.attention import Attend, kernels_used
from benchmark.networks.attention.bands import share_of_pairs
from benchmark.networks.cost import network_flops
from benchmark.running.environment import device_name
from benchmark.running.progress import Display
from registry.backbones.dit import DiT
from tests.perf import growth, levers, mini_run, whole_check
from tests.perf.bounds import Bound, Turn, banded, medians, parts_alone
from tests.perf.measured import AT_LEAST_ONE, Measured, Share
from tests.perf.page import Found, text
from tests.perf.plain_dit import PlainStep, plain
from tests.perf.step import awake, step

SHAPE = ImageShape(3, 32)
MIDDLE, MIDDLE_BATCH = ImageShape(3, 16), 16  # of the recipe `mid`
HEADS, SIZE, LAYER_BATCH = 4, 64, 8
LAYER_BARS = {"bf16": {3: 8.0, 7: 4.0, 13: 2.5}, "fp32": {3: 5.0, 7: 3.0, 13: 2.0}}
STEP_BARS = {"bf16": {"global": 1.6, "local_head": 2.0}, "fp32": {"global": 1.25, "local_head": 1.45}}
USE_BARS = {"bf16": 0.55, "fp32": 0.90}
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}

Job = tuple[str, float, Callable[[Found], Found]]


def layers(precision: str, repeat: int) -> Iterator[Measured]:
    """Measure one local attention layer, forward and backward, against torch's own with a mask."""
    packed = torch.randn(LAYER_BATCH, SHAPE.resolution**2, 3, HEADS, SIZE, dtype=TYPES[precision], requires_grad=True)
    gradient = torch.randn(LAYER_BATCH, HEADS, SHAPE.resolution**2, SIZE, dtype=TYPES[precision])

    def turn(layer: Attend) -> Turn:
        def take() -> None:
            packed.grad = None
            layer(*packed.permute(2, 0, 3, 1, 4).unbind(0)).backward(gradient)

        return take

    for window, bar in LAYER_BARS[precision].items():
        attention = Attention(window=window)
        masked, local = (Attend(attention, SHAPE.resolution) for _ in range(2))
        masked.kernel = "masked"
        alone = banded(attention, SHAPE.resolution, HEADS, SIZE, TYPES[precision], LAYER_BATCH)
        found = medians({"masked": turn(masked), "local": turn(local), "parts": alone}, repeat)
        kernel = next(iter(kernels_used(local).values()))[0]
        yield Measured(
            f"local attention, window {window} ({kernel})",
            precision,
            "masked SDPA",
            bar,
            found["masked"] / found["local"],
            found["local"],
            found["masked"],
            parts=found["parts"],
            share=share_of_pairs(attention, SHAPE.resolution, TYPES[precision]),
        )


def steps(precision: str, repeat: int, batch: int) -> Iterator[Measured]:
    """Measure the training step of DiT-XS/1 against a plain one, and its use of the arithmetic that the machine has."""
    model: DiT = load(registry.find("model", "dit_xs1")).config
    images = torch.randint(256, (64, SHAPE.channels, SHAPE.resolution, SHAPE.resolution), dtype=torch.uint8)
    turns: dict[str, Turn] = {"plain": plain_turn(model, images, precision, batch)}
    for layout in STEP_BARS[precision]:
        turns[layout] = own_turn(model, layout, images, precision, batch)
    left, right = torch.randn(8192, 1024, dtype=TYPES[precision]), torch.randn(1024, 1024, dtype=TYPES[precision])
    found = medians(turns | {"product": lambda: left @ right}, repeat)
    for layout, bar in STEP_BARS[precision].items():
        yield Measured(
            f"training step of DiT-XS/1, {layout}",
            precision,
            "plain DiT",
            bar,
            found["plain"] / found[layout],
            found[layout],
            found["plain"],
        )
    with torch.device("meta"):
        flops = network_flops(model.build(SHAPE, (Attention(),) * model.depth), SHAPE)
    needed = 3 * batch * flops * found["product"] / (2 * 8192 * 1024 * 1024)  # seconds, if all were one large product
    yield Measured(
        "FLOP/s of that step, global",
        precision,
        "a large matrix product",
        USE_BARS[precision],
        needed / found["global"],
        found["global"],
        needed,
    )


def shares(batch: int) -> list[Share]:
    """Take one fp32 step of DiT-XS/1, global, apart: what its linear layers and its attention leave of the machine's peak."""
    model: DiT = load(registry.find("model", "dit_xs1")).config
    images = torch.randint(256, (64, SHAPE.channels, SHAPE.resolution, SHAPE.resolution), dtype=torch.uint8)
    turn = own_turn(model, "global", images, "fp32", batch)
    left, right = torch.randn(8192, 1024), torch.randn(1024, 1024)
    turn()
    with torch.profiler.profile() as profile:
        turn()
    product = medians({"product": lambda: left @ right}, 5)["product"] / (2 * 8192 * 1024 * 1024)  # seconds a FLOP
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in profile.key_averages() if event.key.startswith("aten::")}
    with torch.device("meta"):
        total = 3 * batch * network_flops(model.build(SHAPE, (Attention(),) * model.depth), SHAPE)
    attention = 3 * batch * model.depth * 4 * (SHAPE.resolution // model.patch) ** 4 * model.hidden
    kinds = {"linear layers": (total - attention, ("aten::mm", "aten::addmm")), "attention": (attention, ("aten::_scaled_dot_product",))}
    found, rest = [], sum(spent.values())
    for what, (flops, names) in kinds.items():
        seconds = sum(time for key, time in spent.items() if key.startswith(names))
        found.append(Share(what, flops / total, seconds / sum(spent.values()), flops * product / seconds))
        rest -= seconds
    return [*found, Share("everything else", 0.0, rest / sum(spent.values()), None)]


def built(model: DiT, layout: str, shape: ImageShape = SHAPE) -> nn.Module:
    """Build the network of a layout, its zero weights drawn too, so that no gradient is zero."""
    torch.manual_seed(0)
    return awake(model.build(shape, placed(model, layout)))


def placed(model: DiT, layout: str) -> tuple[Attention, ...]:
    """Return the attention of every layer of a model in a layout."""
    return load(registry.find("layout", layout)).config.place(model.depth)


def bounds(found: Iterable[Measured], batch: int, repeat: int) -> list[Bound]:
    """Measure what bounds the steps that were measured, and a step of the middle size, in both number types."""
    model, middle = (load(registry.find("model", name)).config for name in ("dit_xs1", "dit_mid"))
    made = []
    for one in found:
        if one.against == "plain DiT":
            parts = parts_alone(model, placed(model, one.what.split()[-1]), SHAPE.resolution, TYPES[one.precision], batch)
            made.append(Bound(one.what.split()[-1], one.precision, parts, one.seconds, batch, one.reference_seconds))
    images = torch.randint(256, (16, MIDDLE.channels, MIDDLE.resolution, MIDDLE.resolution), dtype=torch.uint8)
    cases = [(layout, precision) for layout in ("global", "local_head") for precision in TYPES]
    turns = {f"{layout} {precision}": own_turn(middle, layout, images, precision, MIDDLE_BATCH, MIDDLE) for layout, precision in cases}
    taken = medians(turns, repeat)
    for layout, precision in cases:
        parts = parts_alone(middle, placed(middle, layout), MIDDLE.resolution, TYPES[precision], MIDDLE_BATCH)
        what = f"{layout}, hidden {middle.hidden} on {MIDDLE.resolution} x {MIDDLE.resolution}"
        made.append(Bound(what, precision, parts, taken[f"{layout} {precision}"], MIDDLE_BATCH))
    return made


def plain_turn(model: DiT, images: torch.Tensor, precision: str, batch: int) -> Turn:
    """Return a step of the plain DiT."""
    network = plain(built(model, "global"), model)
    taken = PlainStep(network, copy.deepcopy(network), precision)
    return lambda: taken(images, batch)


def own_turn(model: DiT, layout: str, images: torch.Tensor, precision: str, batch: int, shape: ImageShape = SHAPE) -> Turn:
    """Return a step of the benchmark's own training."""
    return step(built(model, layout, shape), images, precision, batch)[0]


def main(words: list[str] | None = None) -> int:
    """Measure, print the bars, and write the page if asked to; 0 whether or not every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.speed", description=__doc__)
    parser.add_argument("--repeat", type=AT_LEAST_ONE, default=10, metavar="N", help="repetitions behind a median (default: 10)")
    parser.add_argument(
        "--runs", type=AT_LEAST_ONE, default=3, metavar="N", help="runs of a command behind a median, tens of seconds each (default: 3)"
    )
    parser.add_argument("--batch", type=AT_LEAST_ONE, default=4, metavar="N", help="images in a training step (default: 4)")
    parser.add_argument("--threads", type=AT_LEAST_ONE, default=1, metavar="T", help="CPU threads (default: 1)")
    parser.add_argument("--only", choices=("layers", "steps"), help="measure only these")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the page here, with what commands and a mini run take")
    parser.add_argument("--json", action="store_true", help="print the ratios as JSON")
    options = parser.parse_args(words)
    torch.set_num_threads(options.threads)
    with Display() as display:
        found = everything(options.only, options.repeat, options.batch, options.runs if options.write and not options.only else 0, display)
    if options.json:
        print(json.dumps([asdict(one) | {"met": one.met} for one in found.ratios], indent=1))
    else:
        rows = [(one.what, one.measured, one.bar, "met" if one.met else f"missed: {one.reason}") for one in found.verdicts]
        title = f"{device_name(torch.device('cpu'))}, {options.threads} thread(s), medians of {options.repeat}"
        print_table(title, ("what", "measured", "bar", "verdict"), rows)
    if options.write:
        write_text(options.write, text(found, options.runs))
    return 0


def everything(only: str | None, repeat: int, batch: int, runs: int, display: Display) -> Found:
    """Measure layers, steps and what bounds them, and by that many runs what commands and a mini run take, under one bar."""
    found = Found(repeat, batch, torch.get_num_threads(), os.getloadavg()[0])
    jobs = list(_jobs(only, repeat, batch, runs))
    bar, done, whole = display.bar("measuring"), 0.0, sum(minutes for _, minutes, _ in jobs)
    for what, minutes, job in jobs:
        bar(done, whole, what)
        found = job(found)
        done += minutes
    bar(whole, whole)
    return found


def _jobs(only: str | None, repeat: int, batch: int, runs: int) -> Iterator[Job]:
    """Yield what is to be measured: its name, about how many minutes it takes, and what adds it to the rest."""
    for precision in LAYER_BARS if only != "steps" else ():
        yield f"layers in {precision}", 0.5, partial(_more, lambda precision=precision: layers(precision, repeat))
    for precision in STEP_BARS if only != "layers" else ():
        yield f"steps in {precision}", 2.5, partial(_more, lambda precision=precision: steps(precision, repeat, batch))
    if only != "layers":
        yield (
            "what bounds a step",
            1.0,
            lambda found: replace(found, shares=tuple(shares(batch)), bounds=tuple(bounds(found.ratios, batch, repeat))),
        )
        for lever in levers.LEVERS:
            yield f"{lever.what}, tried", 1.0, partial(_tried, lever, repeat)
    if runs:
        yield "what a record more costs", 2.5, partial(_grown, runs)
        yield "what a check of everything takes", 3.0, lambda found: replace(found, whole=whole_check.measure(runs))
        yield "what a mini run takes", 2.0, lambda found: replace(found, mini=mini_run.measure(runs))


def _grown(runs: int, found: Found) -> Found:
    grown, read = growth.measure([PROJECT], runs)
    return replace(found, growth=tuple(grown), reading=read)


def _tried(lever: levers.Lever, repeat: int, found: Found) -> Found:
    return replace(found, tried=(*found.tried, *levers.tried(lever, repeat)))


def _more(measure: Callable[[], Iterable[Measured]], found: Found) -> Found:
    return replace(found, ratios=(*found.ratios, *measure()))


if __name__ == "__main__":
    sys.exit(main())
