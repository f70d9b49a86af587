"""What was measured, as docs/performance.md: the bars first, then the tables that say what bounds them."""

import os
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import torch

from benchmark.running.environment import device_name
from tests.perf import bounds, growth, levers, mini_run, verdicts, whole_check
from tests.perf.bounds import Bound
from tests.perf.growth import Growth, Reading
from tests.perf.levers import Tried
from tests.perf.measured import Measured, Share
from tests.perf.mini_run import Mini
from tests.perf.verdicts import Verdict
from tests.perf.whole_check import Whole

COMPUTES = """## What computes a layer

The choice falls once for each device, number type, size of the grid and window; a run can force one, and its record names those it used.

| kernel | how | taken by itself |
|-|-|-|
| `masked` | torch's own attention; every pair is scored, then masked | up to 64 tokens, and wherever nothing else is better |
| `bands` | matrix products of a few rows of queries with the rows of keys they see | on a CPU: windows that leave out a quarter of the \
pairs or more, and everything in bf16 |
| `flex` | torch's FlexAttention, which skips blocks that no window touches | windows on a GPU |
| `natten` | NATTEN, where it is installed | windows with a shifted border on a GPU |

FLOPs on the leaderboard and in `--dry-run` count every pair of tokens, whatever the window and whatever computes it: they are a size of \
the model, not the time it takes.
"""


@dataclass(frozen=True)
class Found:
    """Everything that was measured, `repeat` times each but what commands take, and the machine's load before."""

    repeat: int
    batch: int
    threads: int
    load: float
    ratios: tuple[Measured, ...] = ()
    shares: tuple[Share, ...] = ()
    bounds: tuple[Bound, ...] = ()
    growth: tuple[Growth, ...] = ()
    reading: Reading | None = None
    whole: Whole | None = None
    mini: Mini | None = None
    tried: tuple[Tried, ...] = ()

    @property
    def verdicts(self) -> list[Verdict]:
        """Return the verdict on every bar of which something was measured."""
        return [
            *verdicts.of_ratios(self.ratios, self.bounds),
            *verdicts.of_middle(self.bounds),
            *(verdicts.of_growth(self.growth, self.reading) if self.reading else ()),
            *(verdicts.of_check(self.whole) if self.whole else ()),
            *(verdicts.of_mini(self.mini) if self.mini else ()),
        ]


def text(found: Found, runs: int) -> str:
    """Return docs/performance.md; `runs` are behind each median of what commands take."""
    return "\n".join(
        [
            "# Performance",
            "",
            "Written by `python -m tests.perf.speed --write docs/performance.md` (part of `make bench`).",
            "",
            f"{device_name(torch.device('cpu'))}, {found.threads} thread{'s' * (found.threads > 1)}, PyTorch {torch.__version__}, "
            f"Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}. Medians of {found.repeat} repetitions, taken in turn with "
            f"what they are held against. Load of the machine before: {found.load:.1f} on {os.cpu_count()} cores; what moves much memory "
            "suffers most from a load, and no absolute time holds beside another one.",
            "",
            *verdicts.section(found.verdicts),
            *_ratios(found),
            *_windows([one for one in found.ratios if one.parts is not None]),
            *(bounds.section(found.bounds) if found.bounds else ()),
            *(_shares(found.shares) if found.shares else ()),
            *(levers.section(found.tried) if found.tried else ()),
            COMPUTES,
            *(growth.section(found.growth, found.reading, runs) if found.reading else ()),
            *(whole_check.section(found.whole, runs) if found.whole else ()),
            *(mini_run.section(found.mini, runs) if found.mini else ()),
        ]
    )


def _ratios(found: Found) -> Iterator[str]:
    yield from (
        "## Layers and steps beside stock PyTorch",
        "",
        "| | type | measured | of | here | there |",
        "|-|-|-|-|-|-|",
    )
    for one in found.ratios:
        times = f"{1e3 * one.seconds:.1f} ms | {1e3 * one.reference_seconds:.1f} ms"
        yield f"| {one.what} | {one.precision} | **{one.value:.2f}** | {one.against} | {times} |"
    yield from (
        "",
        "A layer is forward and backward of attention alone, on 32 x 32 tokens, 4 heads of 64, 8 images. "
        f"A step is all of it, from drawing {found.batch} images to the EMA, at the same weights and the same autocast; the plain DiT "
        "([plain_dit.py](../tests/perf/plain_dit.py)) has torch's own attention over heads of 63, and an optimizer and an EMA that go "
        "tensor by tensor. Every kernel computes what masked global attention does, to rounding "
        "([test_attention_kernels.py](../tests/networks/test_attention_kernels.py)).",
        "",
    )


def _windows(layers: Iterable[Measured]) -> Iterator[str]:
    yield from (
        "## What bounds a window",
        "",
        "Bands score whole rows of keys. The third column is what that leaves at the FLOP/s of masked attention; the last is what the "
        "bands' own matrix products and softmax, forward and backward, leave, each by itself on operands that stay in the caches.",
        "",
        "| layer | pairs scored | at masked FLOP/s | products and softmax alone | of | so at most |",
        "|-|-|-|-|-|-|",
    )
    for one in layers:
        assert one.parts is not None
        times = f"{1e3 * one.parts:.1f} ms | {1e3 * one.seconds:.1f} ms | {one.reference_seconds / one.parts:.1f}x"
        yield f"| {one.what}, {one.precision} | {one.share:.1%} | {1 / one.share:.1f}x | {times} |"
    yield ""


def _shares(parts: Iterable[Share]) -> Iterator[str]:
    yield from (
        "## Where an fp32 step goes",
        "",
        "One step of DiT-XS/1, global, in fp32, by torch's profiler. The last column is what bounds the FLOP/s of the whole.",
        "",
        "| | of the FLOPs | of the time | FLOP/s of a large matrix product |",
        "|-|-|-|-|",
    )
    for one in parts:
        yield f"| {one.what} | {one.flops:.0%} | {one.seconds:.0%} | {'' if one.use is None else f'{one.use:.0%}'} |"
    yield ""
