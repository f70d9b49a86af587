"""How fast attention and the training step are, side by side with stock PyTorch: `python -m tests.perf.speed`.

Every quantity is measured in turn with what it is held against, again and again, so that whatever else the machine does
falls on both; a ratio is the ratio of the medians.
"""

import argparse
import copy
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
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
from benchmark.training.loop import start
from benchmark.training.step import Work, prepare, take_step
from registry.backbones.dit import DiT
from tests.perf import growth
from tests.perf.bounds import Bound, Turn, medians, parts_alone, section
from tests.perf.plain_dit import PlainStep, plain

SHAPE = ImageShape(3, 32)
MIDDLE, MIDDLE_BATCH = ImageShape(3, 16), 16  # of the recipe `mid`
HEADS, SIZE, LAYER_BATCH = 4, 64, 8
LAYER_BARS = {"bf16": {3: 8.0, 7: 4.0, 13: 2.5}, "fp32": {3: 5.0, 7: 3.0, 13: 2.0}}
STEP_BARS = {"bf16": {"global": 1.6, "local_head": 2.0}, "fp32": {"global": 1.25, "local_head": 1.45}}
GROWN = 3  # runs behind a median of growth, each of tens of seconds
USE_BARS = {"bf16": 0.55, "fp32": 0.90}
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Measured:
    """One line of the table: a ratio, the least that it should be, and the medians behind it in seconds."""

    what: str
    precision: str
    against: str
    bar: float
    value: float
    seconds: float
    reference_seconds: float

    @property
    def met(self) -> bool:
        """Tell whether the bar is reached."""
        return self.value >= self.bar


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
        masked, local = (Attend(Attention(window=window), SHAPE.resolution) for _ in range(2))
        masked.kernel = "masked"
        found = medians({"masked": turn(masked), "local": turn(local)}, repeat)
        kernel = next(iter(kernels_used(local).values()))[0]
        yield Measured(
            f"local attention, window {window} ({kernel})",
            precision,
            "masked SDPA",
            bar,
            found["masked"] / found["local"],
            found["local"],
            found["masked"],
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


@dataclass(frozen=True)
class Share:
    """What a kind of operation takes of a training step: of its FLOPs, of its time, and its FLOP/s against a large product's."""

    what: str
    flops: float
    seconds: float
    use: float | None


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
    network = model.build(shape, placed(model, layout))
    for parameter in network.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


def placed(model: DiT, layout: str) -> tuple[Attention, ...]:
    """Return the attention of every layer of a model in a layout."""
    return load(registry.find("layout", layout)).config.place(model.depth)


def bounds(found: list[Measured], batch: int, repeat: int) -> list[Bound]:
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
    step = PlainStep(network, copy.deepcopy(network), precision)
    return lambda: step(images, batch)


def own_turn(model: DiT, layout: str, images: torch.Tensor, precision: str, batch: int, shape: ImageShape = SHAPE) -> Turn:
    """Return a step of the benchmark's own training."""
    recipe = replace(load(registry.find("recipe", "paper")).config, batch=batch, precision=precision)
    training, work = start(built(model, layout, shape), recipe), Work(recipe=recipe, seed=0)
    prepare(training.network, work, images.device)
    return lambda: take_step(training, images, work)


def page(
    found: list[Measured], parts: list[Share], bounded: list[Bound], grown: list[growth.Growth], repeat: int, batch: int, load: float
) -> str:
    """Return docs/performance.md."""
    lines = [
        "# Performance",
        "",
        "Written by `python -m tests.perf.speed --write docs/performance.md` (part of `make bench`).",
        "",
        f"{device_name(torch.device('cpu'))}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() > 1)}, "
        f"PyTorch {torch.__version__}, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}. Medians of {repeat} "
        f"repetitions, taken in turn with what they are held against. Load of the machine before: {load:.1f} on {os.cpu_count()} cores; "
        "what moves much memory suffers most from a load.",
        "",
        "| | type | measured | of | at least | here | there |",
        "|-|-|-|-|-|-|-|",
        *(
            f"| {one.what} | {one.precision} | **{one.value:.2f}** | {one.against} | {one.bar:g}{'' if one.met else ' (missed)'} | "
            f"{1e3 * one.seconds:.1f} ms | {1e3 * one.reference_seconds:.1f} ms |"
            for one in found
        ),
        "",
        f"A layer is forward and backward of attention alone, on 32 x 32 tokens, {HEADS} heads of {SIZE}, {LAYER_BATCH} images. "
        f"A step is all of it, from drawing {batch} images to the EMA, at the same weights and the same autocast; the plain DiT "
        "([plain_dit.py](../tests/perf/plain_dit.py)) has torch's own attention over heads of 63, and an optimizer and an EMA that go "
        "tensor by tensor. Every kernel computes what masked global attention does, to rounding "
        "([test_attention_kernels.py](../tests/networks/test_attention_kernels.py)).",
        "",
        "## What bounds a window",
        "",
        "Bands score whole rows of keys, so that a layer cannot be faster than masked attention by more than the second column at the "
        "same FLOP/s; the products of a narrow band are smaller, and its softmax and copies weigh more.",
        "",
        "| window, type | pairs scored | so at most |",
        "|-|-|-|",
        *(
            f"| {window}, {precision} | {share:.1%} | {1 / share:.1f}x |"
            for precision, bars in LAYER_BARS.items()
            for window in bars
            for share in [share_of_pairs(Attention(window=window), SHAPE.resolution, TYPES[precision])]
        ),
        "",
        *(section(bounded) if bounded else ()),
        "## Where an fp32 step goes",
        "",
        "One step of DiT-XS/1, global, in fp32, by torch's profiler. The last column is what bounds the FLOP/s of the whole.",
        "",
        "| | of the FLOPs | of the time | FLOP/s of a large matrix product |",
        "|-|-|-|-|",
        *(f"| {one.what} | {one.flops:.0%} | {one.seconds:.0%} | {'' if one.use is None else f'{one.use:.0%}'} |" for one in parts),
        "",
        "## What computes a layer",
        "",
        "The choice falls once for each device, number type, size of the grid and window; a run can force one, and its record names "
        "those it used.",
        "",
        "| kernel | how | taken by itself |",
        "|-|-|-|",
        "| `masked` | torch's own attention; every pair is scored, then masked | up to 64 tokens, and wherever nothing else is better |",
        "| `bands` | matrix products of a few rows of queries with the rows of keys they see | on a CPU: windows that leave out a "
        "quarter of the pairs or more, and everything in bf16 |",
        "| `flex` | torch's FlexAttention, which skips blocks that no window touches | windows on a GPU |",
        "| `natten` | NATTEN, where it is installed | windows with a shifted border on a GPU |",
        "",
        "FLOPs on the leaderboard and in `--dry-run` count every pair of tokens, whatever the window and whatever computes it: they "
        "are a size of the model, not the time it takes.",
        "",
        *(growth.section(grown, GROWN) if grown else ()),
    ]
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """Measure, print the table, and write the page if asked to; 0 whether or not every bar is met."""
    parser = argparse.ArgumentParser(prog="python -m tests.perf.speed", description=__doc__)
    parser.add_argument("--repeat", type=int, default=10, metavar="N", help="repetitions behind a median (default: 10)")
    parser.add_argument("--batch", type=int, default=4, metavar="N", help="images in a training step (default: 4)")
    parser.add_argument("--threads", type=int, default=1, metavar="T", help="CPU threads (default: 1)")
    parser.add_argument("--only", choices=("layers", "steps"), help="measure only these")
    parser.add_argument("--write", type=Path, metavar="PATH", help="write the page here")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args(words)
    if min(options.repeat, options.batch, options.threads) < 1:
        parser.error("--repeat, --batch and --threads must be at least 1")
    torch.set_num_threads(options.threads)
    load = os.getloadavg()[0]
    found: list[Measured] = []
    turns = [(part, precision) for part in ("layers", "steps") if options.only in (None, part) for precision in LAYER_BARS]
    with Display() as display:
        bar = display.bar("measuring")
        for number, (part, precision) in enumerate(turns):
            bar(number, len(turns), f"{part} in {precision}")
            found += layers(precision, options.repeat) if part == "layers" else steps(precision, options.repeat, options.batch)
        bar(len(turns), len(turns), "")
    if options.json:
        print(json.dumps([asdict(one) | {"met": one.met} for one in found], indent=1))
    else:
        print_table(
            f"{device_name(torch.device('cpu'))}, {options.threads} thread(s), medians of {options.repeat}",
            ("what", "type", "of", "at least", "measured", "met"),
            [(one.what, one.precision, one.against, f"{one.bar:g}", f"{one.value:.2f}", "yes" if one.met else "no") for one in found],
        )
    if options.write:
        parts, bounded = shares(options.batch), bounds(found, options.batch, options.repeat)
        grown = [] if options.only else growth.measure([PROJECT], GROWN)
        write_text(options.write, page(found, parts, bounded, grown, options.repeat, options.batch, load))
    return 0


if __name__ == "__main__":
    sys.exit(main())
