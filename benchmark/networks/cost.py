"""What a network costs: parameters, FLOPs, memory, time."""

import resource
import sys
import time
from statistics import median

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from benchmark.contract import Attention, Backbone, ClosedForm, ImageShape
from benchmark.declaring.spec import Spec
from benchmark.networks import diffusion
from benchmark.running.environment import synchronize

TIMED = 7  # passes
TIMED_SECONDS = 3.0


def parameters(network: nn.Module) -> tuple[int, int]:
    """Return the number of parameters, all and trainable."""
    counts = [(p.numel(), p.requires_grad) for p in network.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trainable in counts if trainable)


def on_meta(spec: Spec) -> nn.Module:
    """Build the network of a spec without memory for its weights; fitted to as many images, where that is its training."""
    return built_on_meta(spec.model.config, spec.images, spec.attention, spec.subset)


def built_on_meta(config: Backbone, images: ImageShape, attention: tuple[Attention, ...], subset: int) -> nn.Module:
    """Build a backbone without memory for its weights, fitted to `subset` images where that is its training."""
    with torch.device("meta"):
        network = config.build(images, attention)
        if isinstance(network, ClosedForm):
            network.fit(torch.zeros(subset, images.channels, images.resolution, images.resolution, dtype=torch.uint8))
    return network


def forward_flops(spec: Spec) -> int:
    """Return the FLOPs of one image's forward pass by torch's counter: 2 per multiply-add of the matrix products.

    Local attention counts as a masked product over all keys, whatever its window leaves out and whichever kernel computes it.
    """
    return network_flops(on_meta(spec), spec.images, spec.classes)


def network_flops(network: nn.Module, images: ImageShape, classes: int = 0) -> int:
    """Return the FLOPs of one image's forward pass through a network on meta, which takes labels of so many classes."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(*_inputs(images, 1, torch.device("meta"), classes))
    return counter.get_total_flops()


def training_memory_bytes(spec: Spec) -> int:
    """Return an estimate of a training step's memory: weights, gradient, two moments, EMA, and what the backward pass needs.

    With the fused attention that CPUs and GPUs have, which keeps no attention map. 0 where there is nothing to train.
    """
    total, trainable = parameters(on_meta(spec))
    recipe = spec.recipe.config
    if not trainable:
        return 4 * 2 * total
    one, two = (
        saved_bytes(spec.model.config, spec.images, spec.attention, batch=batch, bf16=recipe.precision == "bf16") for batch in (1, 2)
    )
    # What does not grow with the batch, such as the weights rounded to bf16, is there once.
    return 4 * (2 * total + 3 * trainable) + one + (two - one) * (recipe.batch - 1)


def saved_bytes(config: Backbone, images: ImageShape, attention: tuple[Attention, ...], batch: int = 1, bf16: bool = False) -> int:
    """Return the bytes that the backward pass of a batch needs beside the weights, each tensor once; nothing is computed."""
    kept: dict[int, torch.UntypedStorage] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage  # held, so that no other takes its place
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True):
        network = config.build(images, attention).train()
        own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
        with saved_tensors_hooks(count, lambda tensor: tensor), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            network(*_inputs(images, batch, torch.device("cpu"), getattr(config, "num_classes", 0)))
    return sum(storage.nbytes() for storage in kept.values())


def step_seconds(spec: Spec, network: nn.Module, device: torch.device) -> float:
    """Return an estimate of the seconds of one training step: forward and backward, of 2 images scaled up where one is heavy.

    The median of TIMED passes, or of as many as fit into TIMED_SECONDS, after one that warms up. 0 where the network is
    fitted and takes no step.
    """
    if isinstance(network, ClosedForm):
        return 0.0
    batch = spec.recipe.config.batch
    few = min(2, batch) if forward_flops(spec) > 1e9 else batch
    given = _inputs(spec.images, few, device, spec.classes)
    times: list[float] = []
    while len(times) <= TIMED and sum(times[1:]) < TIMED_SECONDS:  # the first warms up
        synchronize(device)
        began = time.perf_counter()
        network(*given).square().mean().backward()
        synchronize(device)
        times.append(time.perf_counter() - began)
    return median(times[1:]) * batch / few


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of the device where it counts it, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _inputs(images: ImageShape, batch: int, device: torch.device, classes: int) -> tuple[torch.Tensor, ...]:
    """Return images and steps, and labels where there are classes."""
    shape = (batch, images.channels, images.resolution, images.resolution)
    given = torch.zeros(shape, device=device), torch.full((batch,), diffusion.STEPS // 2, device=device)
    return (*given, torch.zeros(batch, dtype=torch.long, device=device)) if classes else given
