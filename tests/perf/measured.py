"""What is measured in turn with what it is held against."""

from dataclasses import dataclass

from benchmark.commands.flags import whole

AT_LEAST_ONE = whole(1, 1_000_000)  # what a flag of a measurement counts: repetitions, runs, images, threads


@dataclass(frozen=True)
class Measured:
    """A ratio, the least that it should be, and the medians behind it in seconds.

    Of a layer also the seconds of its matrix products and softmax alone, and the share of all pairs that it scores.
    """

    what: str
    precision: str
    against: str
    bar: float
    value: float
    seconds: float
    reference_seconds: float
    parts: float | None = None
    share: float = 1.0

    @property
    def met(self) -> bool:
        """Tell whether the bar is reached."""
        return self.value >= self.bar


@dataclass(frozen=True)
class Share:
    """What a kind of operation takes of a training step: of its FLOPs, of its time, and its FLOP/s against a large product's."""

    what: str
    flops: float
    seconds: float
    use: float | None
