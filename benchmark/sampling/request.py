"""Which samples: the sampler, the seed of the noise, how many; what an image depends on names its folder."""

from typing import Annotated, Literal

from benchmark.contract import Count, FieldError, Fraction, Positive, Range, checked
from benchmark.errors import UsageError, unknown
from benchmark.sampling.samplers import Variance

Sampler = Literal["ancestral", "ddim", "dpm", "euler", "heun"]
Precision = Literal["fp32", "tf32", "bf16"]
DEFAULT_STEPS: dict[Sampler, int] = {"ancestral": 250, "ddim": 50, "dpm": 20, "euler": 50, "heun": 25}


@checked
class Request:
    """Which samples of a run: the sampler and what it depends on, the seed of the noise, how many."""

    count: Positive
    sampler: Sampler = "ancestral"
    steps: Annotated[int, Range(least=1, most=1000)] = 250
    eta: Fraction = 0.0  # of ddim alone
    variance: Variance = "beta_tilde"  # of ancestral alone
    guidance: Annotated[float, Range(least=0)] | None = None  # None: 1 where the model has classes
    seed: Count = 0
    precision: Precision = "fp32"  # of the network's passes; the recursion between them is fp32

    @property
    def key(self) -> str:
        """The name of the folder: everything but the count, because the first images do not depend on it."""
        eta = f"-eta{self.eta:g}" if self.eta else ""
        variance = f"-{self.variance}" if self.variance != "beta_tilde" else ""
        guidance = f"-guidance{self.guidance:g}" if self.guidance is not None else ""
        precision = f"-{self.precision}" if self.precision != "fp32" else ""
        return f"{self.sampler}{self.steps}{eta}{variance}{guidance}{precision}-seed{self.seed}"

    def validate(self) -> None:
        if self.eta and self.sampler != "ddim":
            raise FieldError(f"eta = {self.eta:g} belongs to the sampler 'ddim'; '{self.sampler}' has no such choice")
        if self.variance != "beta_tilde" and self.sampler != "ancestral":
            raise FieldError(f"variance = {self.variance} belongs to the sampler 'ancestral'; '{self.sampler}' has no such choice")


def request_of(
    count: int,
    sampler: str,
    steps: int | None,
    *,
    eta: float = 0.0,
    variance: Variance = "beta_tilde",
    guidance: float | None = None,
    seed: int = 0,
    precision: Precision = "fp32",
) -> Request:
    """Return a request whose steps are the sampler's usual ones where none are named; raise UsageError for another sampler."""
    if (known := next((name for name in DEFAULT_STEPS if name == sampler), None)) is None:
        raise unknown("sampler", sampler, DEFAULT_STEPS)
    taken = DEFAULT_STEPS[known] if steps is None else steps
    return Request(count=count, sampler=known, steps=taken, eta=eta, variance=variance, guidance=guidance, seed=seed, precision=precision)


def check_guidance(request: Request, classes: int, null: bool) -> None:
    """Raise UsageError where a request is guided and the network has no classes, or no label for none of them."""
    if request.guidance is None:
        return
    if not classes:
        raise UsageError(f"`guidance={request.guidance:g}` needs a model with classes; this one has none (num_classes = 0). Leave it out.")
    if not null and request.guidance != 1:
        raise UsageError(
            f"`guidance={request.guidance:g}` needs a model trained with a label for no class; this one was not "
            "(class_dropout = 0). Leave it out."
        )
