"""Everything that is not the step of a mini training costs under 2%: `train` against the bare loop, turn by turn, CPU seconds."""

import json
import statistics
import time
from pathlib import Path

import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmark import data, diffusion
from benchmark.record import Point
from benchmark.run import build
from benchmark.signals import stop_requested
from benchmark.spec import Spec, resolve
from benchmark.step import learning_rate
from benchmark.train import Hooks, start, train

ROUNDS, STEPS = 10, 100


def bare(spec: Spec, images: torch.Tensor) -> None:
    """The same steps with nothing around them."""
    recipe, network = spec.recipe.config, build(spec).train()
    training, abar = start(network, recipe), diffusion.alphas_cumprod()
    weights, averages = list(network.parameters()), list(training.ema.parameters())
    for step in range(STEPS):
        torch.manual_seed(step)
        x0 = diffusion.scaled(images[torch.randint(len(images), (recipe.batch,))])
        t, noise = torch.randint(1000, (recipe.batch,)), torch.randn(x0.shape)
        diffusion.loss(network, x0, t, noise, abar).backward()
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, step)
        training.optimizer.step()
        training.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            torch._foreach_lerp_(averages, weights, 1 - recipe.ema)


def harnessed(spec: Spec, images: torch.Tensor, folder: Path) -> None:
    """As `bench run` trains: metrics on the disk, signals heard, a checkpoint at the end."""
    with (folder / "metrics.jsonl").open("a") as log, stop_requested() as stop:

        def report(step: int, metrics: dict[str, float]) -> None:
            log.write(json.dumps({"step": step, "metrics": metrics}) + "\n")
            log.flush()

        def measure(ema: torch.nn.Module, step: int, loss: float) -> Point:
            raise AssertionError("the scores along the way are no part of this")

        hooks = Hooks(report=report, measure=measure, warn=print, stop=stop)
        recipe = spec.recipe.config
        train(start(build(spec), recipe), images, recipe, seed=0, folder=folder / f"checkpoints{time.monotonic_ns()}", hooks=hooks)


def test_harness_costs_less_than_two_percent_of_a_mini_training(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    axes = {"model": "dit_mini", "layout": "local_3x3_head", "dataset": "dead_leaves8", "recipe": "mini"}
    spec = resolve(axes, subset=16, seed=0, overrides=[f"recipe.steps={STEPS}", "recipe.trajectory=()"])
    packed = data.load(data.packed_name(spec), spec.dataset.config, home=tmp_path, progress=None)
    images = torch.from_numpy(data.subset(packed, spec.dataset.name, 16, 0).train)
    seconds: dict[str, list[float]] = {"bare": [], "harnessed": []}

    def turn() -> None:
        order = ("bare", "harnessed") if len(seconds["bare"]) % 2 else ("harnessed", "bare")
        for name in order:
            began = time.process_time()
            if name == "bare":
                bare(spec, images)
            else:
                harnessed(spec, images, tmp_path)
            seconds[name].append(time.process_time() - began)

    benchmark.pedantic(turn, rounds=ROUNDS, warmup_rounds=1)
    pairs = list(zip(seconds["harnessed"][1:], seconds["bare"][1:], strict=True))
    overhead = statistics.median(a / b for a, b in pairs) - 1
    benchmark.extra_info["overhead"] = overhead
    print(f"overhead {100 * overhead:.2f}%: {1000 * statistics.median(b for _, b in pairs) / STEPS:.2f} ms a bare step")
    assert overhead < 0.02
