"""`bench run --dry-run`: what a row would be, and what it would cost."""

from typing import TYPE_CHECKING, Any

from benchmark.commands.output import print_json, print_table, say
from benchmark.commands.words import typed
from benchmark.recording.said import duration

if TYPE_CHECKING:
    from benchmark.declaring.spec import Spec
    from benchmark.running.place import Place


def dry_run(spec: "Spec", place: "Place", *, timed: bool, json: bool) -> int:
    """Print a spec and its cost; time a few steps where that is asked for."""
    from benchmark.images import datasets
    from benchmark.scoring import ahead
    from benchmark.training.beforehand import check_trainable, short_of_memory

    check_trainable(spec)
    ahead.check(spec, place)
    facts = _facts(spec, place, timed)
    for short in filter(None, (short_of_memory(spec), datasets.short_of_images(spec, place.home))):
        say(typed(short), error=True)
    if json:
        print_json(facts | {"spec": spec.to_json()})
        return 0
    print_table("the spec", ("field", "value"), _fields(spec))
    print_table("what it would cost", ("fact", "value"), _in_words(facts, spec.recipe.config.precision))
    return 0


def _facts(spec: "Spec", place: "Place", timed: bool) -> dict[str, Any]:
    from benchmark import run as runs
    from benchmark.images import datasets
    from benchmark.networks import cost
    from benchmark.networks.attention import pairs_scored
    from benchmark.suites.cost import LAUNCH, PASSES, forward, seconds_of_h100

    network, recipe = cost.on_meta(spec), spec.recipe.config
    total, trainable = cost.parameters(network)
    passed = forward(network, spec)
    steps = recipe.steps if trainable else 0
    seconds = None
    if timed:
        say(f"timing a few steps of {spec.title} on {place.device} (--no-timing: none)", error=True)
        seconds = cost.step_seconds(spec, runs.build(spec).to(place.device), place.device)
    training_flops = PASSES * passed.flops * recipe.batch * steps
    arithmetic, kernels = seconds_of_h100(training_flops, recipe.precision), PASSES * passed.kernels
    return {
        "id": spec.id,
        "parameters": total,
        "parameters_trainable": trainable,
        "forward_flops": passed.flops,
        "training_flops": training_flops,
        "training_memory_bytes": cost.training_memory_bytes(spec),
        "estimated_seconds": None if seconds is None else seconds * recipe.steps,
        "assumed_h100_seconds": max(arithmetic, kernels * LAUNCH * steps),
        "assumed_h100_arithmetic_seconds": arithmetic,
        "assumed_kernels_per_step": kernels if trainable else 0,
        "device": str(place.device),
        "data": typed(datasets.status(datasets.packed_name(spec), place.home, spec.dataset.config)[1]),
        "attention": [layer.window or (type(layer.pattern).__name__ if layer.pattern else "global") for layer in spec.attention],
        "attention_pairs": list(pairs_scored(network)),
        "assumed": list(spec.assumed),
        "state": "finished" if runs.finished(spec, place) else "not finished",
    }


def _fields(spec: "Spec") -> list[tuple[str, str]]:
    from benchmark.declaring.fields import to_json

    rows = [
        (f"{axis}.{field}", str(value))
        for axis in ("model", "layout", "dataset", "recipe")
        for field, value in [("name", getattr(spec, axis).name), *to_json(getattr(spec, axis).config).items()]
    ]
    return rows + [("subset", str(spec.subset)), ("seed", str(spec.seed)), *([("half", spec.half)] if spec.half else [])]


def _in_words(facts: dict[str, Any], precision: str) -> list[tuple[str, str]]:
    from benchmark.suites.cost import petaflops

    seconds = facts["estimated_seconds"]
    here = "not timed" if seconds is None else f"about {duration(seconds)} of training on this {facts['device']} (from a few timed steps)"
    said: dict[str, Any] = facts | {
        "parameters": f"{facts['parameters']:,}, {facts['parameters_trainable']:,} trainable",
        "forward_flops": f"{facts['forward_flops'] / 1e9:.3f} GFLOP an image",
        "training_flops": f"{petaflops(facts['training_flops'])} PFLOP",
        "training_memory_bytes": f"about {facts['training_memory_bytes'] / 2**30:.2f} GiB",
        "estimated_seconds": here,
        "assumed_h100_seconds": _on_h100(facts, precision),
        "attention": " ".join(map(str, facts["attention"])) or "none that a layout addresses",
        "assumed": "\n".join(facts["assumed"]) or "nothing",
    }
    for shown_with_another in ("parameters_trainable", "assumed_h100_arithmetic_seconds", "assumed_kernels_per_step"):
        del said[shown_with_another]
    names = {"estimated_seconds": "time here", "assumed_h100_seconds": "time on a GPU", "training_memory_bytes": "training memory"}
    return [(names.get(key, key.replace("_", " ")), str(value)) for key, value in said.items()]


def _on_h100(facts: dict[str, Any], precision: str) -> str:
    """Say what the training would take on one H100: its arithmetic, or, of a small network, the starts of its kernels."""
    from benchmark.suites.cost import LAUNCH, h100_said

    seconds, arithmetic = facts["assumed_h100_seconds"], facts["assumed_h100_arithmetic_seconds"]
    if not facts["training_flops"]:
        return "none: nothing is trained"
    if seconds == arithmetic:
        return f"about {duration(seconds)} of training on one H100 (arithmetic: {h100_said(precision)})"
    return (
        f"about {duration(seconds)} of training on one H100 that does nothing else (its {facts['assumed_kernels_per_step']:,} kernels "
        f"a step, started {LAUNCH * 1e6:.0f} us apart, assumed; their arithmetic is {_short(arithmetic)}, at {h100_said(precision)})"
    )


def _short(seconds: float) -> str:
    return "under a second" if seconds < 1 else f"about {duration(seconds)}"
