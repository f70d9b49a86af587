"""Everything that is not the step costs under 2% of a mini training.

What `train` adds to a bare loop is measured, in CPU seconds and turn by turn, on a network that costs next to nothing, where the
difference of two loops is not lost in their noise; it is held against the bare step of the mini network.
"""

import json
import statistics
import time
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from benchmark.declaring.recipe import Recipe
from benchmark.declaring.spec import resolve
from benchmark.networks import diffusion
from benchmark.recording.record import Point
from benchmark.run import build
from benchmark.running.signals import stop_requested
from benchmark.training.loop import Hooks, start, train
from benchmark.training.step import learning_rate
from tests.one_weight import Scale

ROUNDS, STEPS = 10, 500
IMAGES = torch.randint(0, 256, (16, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def bare(network: nn.Module, recipe: Recipe, steps: int) -> float:
    """Take steps with nothing around them; return their CPU seconds."""
    training, abar = start(network.train(), recipe), diffusion.alphas_cumprod()
    weights, averages = list(network.parameters()), list(training.ema.parameters())
    began = time.process_time()
    for step in range(steps):
        torch.default_generator.manual_seed(step)
        x0 = diffusion.scaled(IMAGES[torch.randint(len(IMAGES), (recipe.batch,))])
        t, noise = torch.randint(1000, (recipe.batch,)), torch.randn(x0.shape)
        diffusion.loss(network, x0, t, noise, abar).backward()
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - recipe.ema)
    return time.process_time() - began


def harnessed(network: nn.Module, recipe: Recipe, folder: Path) -> float:
    """Train as `bench run` does: metrics on the disk, signals heard, a checkpoint at the end; return the CPU seconds."""
    training = start(network, recipe)
    with (folder / "metrics.jsonl").open("a") as log, stop_requested() as stop:

        def report(step: int, metrics: dict[str, float]) -> None:
            log.write(json.dumps({"step": step, "metrics": metrics}) + "\n")
            log.flush()

        def measure(ema: nn.Module, step: int, loss: float) -> Point:
            raise AssertionError("the scores along the way are no part of this")

        hooks = Hooks(report=report, measure=measure, warn=print, stop=stop)
        began = time.process_time()
        train(training, IMAGES, recipe, seed=0, folder=folder / f"checkpoints{time.monotonic_ns()}", hooks=hooks)
    return time.process_time() - began


def test_harness_costs_less_than_two_percent_of_a_mini_training(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    axes = {"model": "dit_mini", "layout": "local_3x3_head", "dataset": "dead_leaves8", "recipe": "mini"}
    spec = resolve(axes, subset=16, seed=0)
    mini, recipe = build(spec), Recipe(steps=STEPS, batch=8)
    added: list[float] = []
    steps: list[float] = []

    def turn() -> None:
        added.append(harnessed(Scale(), recipe, tmp_path) - bare(Scale(), recipe, STEPS))
        steps.append(bare(mini, recipe, 20) / 20)

    benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
    ends = [harnessed(Scale(), Recipe(steps=1, batch=8), tmp_path) for _ in range(ROUNDS)]  # beginning and end of a run, one step
    save = start(mini, recipe)
    began = time.process_time()
    for _ in range(ROUNDS):
        save.save(tmp_path / "mini")
    checkpoint = (time.process_time() - began) / ROUNDS
    end = statistics.median(ends)
    each = (statistics.median(added[1:]) - end) / STEPS
    whole = spec.recipe.config.steps * statistics.median(steps[1:])
    overhead = (spec.recipe.config.steps * each + end + checkpoint) / whole
    benchmark.extra_info["overhead"] = overhead
    print(
        f"{1e6 * each:.0f} us a step of {1e3 * statistics.median(steps[1:]):.2f} ms, {1e3 * (end + checkpoint):.0f} ms a run: "
        f"{100 * overhead:.2f}% of a mini training"
    )
    assert overhead < 0.02
