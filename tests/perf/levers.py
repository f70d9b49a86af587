"""What was tried to make a training step faster and is not done: each way in turn with the step as it is."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.contract import Attention, ImageShape
from benchmark.declaring import registry
from benchmark.declaring.entries import load
from tests.perf.bounds import medians
from tests.perf.step import awake, step

Change = Callable[[nn.Module], nn.Module]


@dataclass(frozen=True)
class Case:
    """A network without windows on images of a size, and how many of them a step takes."""

    model: str
    resolution: int
    batch: int


@dataclass(frozen=True)
class Lever:
    """A way to change a step: fields of the model's entry, the network once built, or how its blocks are compiled."""

    what: str
    cases: tuple[Case, ...]
    precisions: tuple[str, ...]
    fields: dict[str, int] | None = None
    change: Change = lambda network: network
    compiled: str = "none"


@dataclass(frozen=True)
class Tried:
    """Seconds of a step as it is and changed."""

    what: str
    case: Case
    precision: str
    seconds: float
    changed: float


def streamed(network: nn.Module) -> nn.Module:
    """Let the tokens pass from block to block in bf16; norms compute in fp32 as before."""

    def narrow(_: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return given[0].bfloat16(), *given[1:]

    blocks = network.blocks
    assert isinstance(blocks, nn.ModuleList)
    blocks[0].register_forward_pre_hook(narrow)
    return network


PAPER, MIDDLE, MINI = Case("dit_xs1", 32, 4), Case("dit_mid", 16, 16), Case("dit_mini", 8, 16)
BOTH = ("bf16", "fp32")
LEVERS = (
    Lever("hidden width of 256, heads of 64", (PAPER,), BOTH, fields={"hidden": 256}),
    Lever("tokens between the blocks in bf16", (PAPER, MIDDLE), ("bf16",), change=streamed),
    Lever("blocks compiled, which fuses norms, modulation and gates", (PAPER,), ("bf16",), compiled="blocks"),
    Lever("blocks compiled, which fuses norms, modulation and gates", (MIDDLE, MINI), BOTH, compiled="blocks"),
    Lever(
        "channels last",
        (Case("unet", 32, 1), Case("unet_mini", 8, 16)),
        BOTH,
        change=lambda network: network.to(memory_format=torch.channels_last),  # type: ignore[call-overload]
    ),
)


def tried(lever: Lever, repeat: int) -> Iterator[Tried]:
    """Measure a lever on each of its cases, in each of its number types; raise RuntimeError where the compiler fails."""
    for case in lever.cases:
        for precision in lever.precisions:
            images = torch.randint(256, (16, 3, case.resolution, case.resolution), dtype=torch.uint8)
            as_it_is, _ = step(_built(case, {}), images, precision, case.batch)
            changed, work = step(lever.change(_built(case, lever.fields or {})), images, precision, case.batch, lever.compiled)
            found = medians({"as it is": as_it_is, "changed": changed}, repeat)
            if work.compiled != lever.compiled:
                raise RuntimeError(f"{lever.what}: blocks were not compiled, so that nothing was tried")
            yield Tried(lever.what, case, precision, found["as it is"], found["changed"])


def section(found: Iterable[Tried]) -> list[str]:
    """Return the lines of the page that say what was tried."""
    return [
        "## What was tried on a step",
        "",
        "Whole steps with global attention, one after the other in turn. None of it is in the code: what changes the last bits of a step "
        "makes every record one of older code, for which these gains on a CPU are too small. `compile = 'blocks'` is a recipe's choice.",
        "",
        "| changed | model | images | type | as it is | changed | |",
        "|-|-|-|-|-|-|-|",
        *(
            f"| {one.what} | {one.case.model} | {one.case.batch} of {one.case.resolution} x {one.case.resolution} | {one.precision} | "
            f"{1e3 * one.seconds:.1f} ms | {1e3 * one.changed:.1f} ms | {one.seconds / one.changed:.2f}x |"
            for one in found
        ),
        "",
    ]


def _built(case: Case, fields: dict[str, Any]) -> nn.Module:
    spec = replace(load(registry.find("model", case.model)).config, **fields)
    torch.manual_seed(0)
    network = spec.build(ImageShape(3, case.resolution), (Attention(),) * spec.attention_layers)
    return awake(network)
