"""What a training step holds in memory, by part, as far as tensors tell."""

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from benchmark.networks import diffusion
from benchmark.networks.cost import peak_memory_bytes
from benchmark.networks.numerics import tf32
from benchmark.training.state import Training
from benchmark.training.step import Work, draw


def memory_by_part(training: Training, images: Tensor, work: Work) -> dict[str, int]:
    """Return the bytes of what a step holds; activations: what the backward pass keeps of as many images as go at a time."""
    network = training.network
    moments = [value for entry in training.optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return {
        "parameters": _bytes([*network.parameters(), *network.buffers()]),
        "gradients": _bytes([weight for weight in network.parameters() if weight.requires_grad]),
        "optimizer": _bytes(moments),
        "ema": _bytes([*training.ema.parameters(), *training.ema.buffers()]),
        "images": _bytes([images]),
        "activations": _activation_bytes(network, images, work),
        "peak": peak_memory_bytes(images.device),
    }


def _activation_bytes(network: nn.Module, images: Tensor, work: Work) -> int:
    """Count every stored tensor once, the weights apart."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = draw(images, 0, work)
    part = slice(0, work.micro_batch or len(batch.t))
    with (
        saved_tensors_hooks(count, lambda tensor: tensor),
        tf32(work.recipe.tf32),
        torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=work.recipe.precision == "bf16"),
    ):
        y = None if batch.y is None else batch.y[part]
        diffusion.loss(network, batch.x0[part], batch.t[part], batch.noise[part], work.abar, work.objective, y)
    return sum(kept.values())


def _bytes(tensors: list[Tensor]) -> int:
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())
