"""A training step of the benchmark's own, to be timed."""

from dataclasses import replace

from torch import Tensor, nn

from benchmark.declaring import registry
from benchmark.declaring.entries import load
from benchmark.training.loop import start
from benchmark.training.step import Work, prepare, take_step
from tests.perf.bounds import Turn


def awake(network: nn.Module) -> nn.Module:
    """Draw a fresh network's zero weights too, so that no gradient is zero."""
    for parameter in network.parameters():
        if parameter.requires_grad and not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network


def step(network: nn.Module, images: Tensor, precision: str, batch: int, compiled: str = "none") -> tuple[Turn, Work]:
    """Return a step of a network under the paper's recipe, and the work that says what compiled it in the end."""
    recipe = replace(load(registry.find("recipe", "paper")).config, batch=batch, precision=precision, compile=compiled)
    training, work = start(network, recipe), Work(recipe=recipe, seed=0)
    prepare(training.network, work, images.device)
    return lambda: take_step(training, images, work), work
