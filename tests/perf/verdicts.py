"""The bars of the page, each met or missed with the reason: one sentence, made of the numbers that say what bounds it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.perf import mini_run, whole_check
from tests.perf.bounds import Bound
from tests.perf.growth import Growth, Reading
from tests.perf.measured import Measured
from tests.perf.mini_run import RECORD, SCORING, START, STEPS, Mini
from tests.perf.whole_check import Whole

MIDDLE_BAR = 130.0  # images a second in bf16: twice what it was
GROWTH_BARS = {"leaderboard": 1.75, "report paper": 2.75, "check": 0.45}  # ms a record: half of what they were


@dataclass(frozen=True)
class Verdict:
    """A bar and what was measured of it, in words; `reason` says why it is missed, and is empty where it is met."""

    what: str
    measured: str
    bar: str
    reason: str = ""

    @property
    def met(self) -> bool:
        """Tell whether the bar is reached."""
        return not self.reason

    @property
    def row(self) -> str:
        """Return the row of the page."""
        return f"| {self.what} | **{self.measured}** | {self.bar} | {f'missed: {self.reason}' if self.reason else 'met'} |"


def judged(what: str, measured: str, bar: str, met: bool, reason: str) -> Verdict:
    """Return the verdict on a bar; raise ValueError where it is missed and nothing that was measured says why."""
    if not met and not reason.strip():
        raise ValueError(f"{what} misses its bar ({measured}; {bar}), and no measurement says why")
    return Verdict(what, measured, bar, "" if met else reason)


def bounded(bar: float, reference: float, parts: float, seconds: float, what: str) -> str:
    """Say why `reference / seconds` stays under a bar, where `parts` of the seconds are what nothing beside them can shorten."""
    alone, most = f"{what} alone take {_duration(parts)} of {_duration(seconds)}", reference / parts
    if most < bar:
        return f"{alone}, so that {f'{most:,.0f}' if most >= 1000 else f'{most:.3g}'} is the most"
    room = reference / bar - parts
    return f"{alone}; to all else, which takes {_duration(seconds - parts)}, the bar leaves {_duration(room)}"


def of_ratios(found: Iterable[Measured], bounds: Sequence[Bound]) -> Iterator[Verdict]:
    """Judge layers by their products and softmax, steps and their FLOP/s by their linear layers, attention and GELU."""
    known = {(one.what, one.precision): one.parts.seconds for one in bounds}
    for one in found:
        if one.parts is None:
            parts, what = known.get((one.what.split()[-1], one.precision)), "its linear layers, attention and GELU"
        else:
            parts, what = one.parts, f"its matrix products and softmax ({one.share:.1%} of the pairs)"
        reason = "" if one.met or parts is None else bounded(one.bar, one.reference_seconds, parts, one.seconds, what)
        yield judged(f"{one.what}, {one.precision}, against {one.against}", f"{one.value:.2f}", f"at least {one.bar:g}", one.met, reason)


def of_middle(bounds: Iterable[Bound]) -> Iterator[Verdict]:
    """Judge the images a second of steps on the middle grid in bf16, which are held against nothing."""
    for one in bounds:
        if one.plain is None and one.precision == "bf16":
            speed = one.images / one.seconds
            reason = bounded(MIDDLE_BAR, one.images, one.parts.seconds, one.seconds, "its linear layers, attention and GELU")
            reason += f" ({one.parts.attention / one.parts.seconds:.0%} of them attention)"
            yield judged(f"step of {one.what}, bf16", f"{speed:.0f} images/s", f"at least {MIDDLE_BAR:g}", speed >= MIDDLE_BAR, reason)


def of_growth(found: Iterable[Growth], reading: Reading) -> Iterator[Verdict]:
    """Judge what a record more costs by what reading it, and for a check its errors, costs alone."""
    for one in found:
        bar = GROWTH_BARS[one.command.partition(",")[0]]
        errors = f", and the errors of its images {reading.errors:.2f} ms" if one.command == "check" else ""
        reason = (
            f"reading a record and holding every field to its type alone takes {reading.record:.2f} ms{errors}, in code that the digest "
            "of every record covers"
        )
        yield judged(
            f"`bench {one.command.replace(', ', '`, ')}{'' if ', ' in one.command else '`'}, a record more",
            f"{one.milliseconds:.2f} ms",
            f"at most {bar:g}",
            one.milliseconds <= bar,
            reason,
        )


def of_check(whole: Whole) -> Iterator[Verdict]:
    """Judge a check of everything by what its rules cannot do without."""
    spent, least, bars = whole.spent, whole.needed, whole_check.BARS
    reason = (
        f"imports ({least.imports:.1f} s), every network's FLOPs and memory counted ({least.counts:.1f} s), built {whole_check.BUILDS} "
        f"times ({least.builds:.1f} s) and passed through ({least.passes:.1f} s) alone take {least.seconds:.1f} s"
    )
    yield judged(
        "`bench check` of everything", f"{spent.seconds:.1f} CPU s", f"at most {bars.seconds:g}", spent.seconds <= bars.seconds, reason
    )
    reason = (
        f"torch and the entries, once imported, hold {least.imported:,.0f} MiB, and {least.name}, saved and loaded, twice "
        f"{least.largest:,.0f} MiB: {least.memory:,.0f} MiB"
    )
    yield judged("memory of that check", f"{spent.memory:,.0f} MiB", f"at most {bars.memory:,.0f}", spent.memory <= bars.memory, reason)


def of_mini(mini: Mini) -> Iterator[Verdict]:
    """Judge a mini run by its steps and its scoring, whose code gives the numbers of every record, and by the rest."""
    apart = mini.cpu[STEPS] + mini.cpu[SCORING]
    reason = (
        f"steps ({mini.cpu[STEPS]:.1f} s, at {mini.use:.0%} of a large matrix product's FLOP/s; products, attention and GELU alone "
        f"{mini.alone:.1f} s) and scoring ({mini.cpu[SCORING]:.1f} s) take {apart:.1f} s in code that the digest of every record covers, "
        f"start and imports {mini.cpu[START]:.1f} s, picture and record {mini.cpu[RECORD]:.1f} s, all else "
        f"{mini.seconds - apart - mini.cpu[START] - mini.cpu[RECORD]:.1f} s"
    )
    yield judged("a mini run", f"{mini.seconds:.1f} CPU s", f"at most {mini_run.BAR:g}", mini.seconds <= mini_run.BAR, reason)


def section(verdicts: Sequence[Verdict]) -> list[str]:
    """Return the lines of the page that hold every bar against what was measured."""
    met = sum(one.met for one in verdicts)
    return [
        "## The bars",
        "",
        f"{met} of {len(verdicts)} are met. Of each that is not, a sentence says by measurement what bounds it; its tables follow.",
        "",
        "| | measured | bar | |",
        "|-|-|-|-|",
        *(one.row for one in verdicts),
        "",
    ]


def _duration(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"
