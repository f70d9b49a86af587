"""What is said of a spec before it trains."""

from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import Spec
from benchmark.errors import UsageError


def check_trainable(spec: Spec) -> None:
    """Raise UsageError where a model wants class labels: no dataset here has any, and it would never see one."""
    if classes := getattr(spec.model.config, "num_classes", 0):
        raise UsageError(
            f"The model '{spec.model.name}' takes class labels (num_classes = {classes}), and no dataset here has any, so it "
            "cannot be trained. Train it without: `overrides=['model.num_classes=0']`. Weights trained elsewhere with labels are "
            "scored with one of them: `benchmark.networks.weights.unlabelled(..., path=FILE, form='dit', label=K)`."
        )


def short_of_memory(spec: Spec) -> str | None:
    """Say where the EMA, which is what is scored, remembers longer than the run lasts: much of it is still the initial weights."""
    recipe = spec.recipe.config
    if not isinstance(recipe, Recipe) or recipe.steps >= 1 / (1 - recipe.ema):
        return None
    return (
        f"The EMA remembers about {1 / (1 - recipe.ema):,.0f} steps, and the run has {recipe.steps:,}: the averaged network, which is "
        f"scored, still holds {100 * recipe.ema**recipe.steps:.0f}% of the initial weights. Train longer, or take a smaller ema than "
        f"{recipe.ema:g}."
    )
