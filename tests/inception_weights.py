"""Inception weights by formula, in the format of the published file: they prove the path, not the quality."""

import hashlib
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

COUNT = 566  # entries of the published file


def save(path: Path) -> Path:
    """Write the weights and return their path; the same numbers on every machine."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Shapes(FeatureExtractorInceptionV3):
        """The network as it is built, before any weights are loaded."""

        def load_state_dict(self, state: Any) -> None:
            assert state == {}

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    state = Shapes("inception-v3-compat", ["2048"], feature_extractor_weights_path=empty).state_dict()
    assert len(state) == COUNT
    torch.save({name: _filled(name, tensor) for name, tensor in state.items()}, path)
    return path


def _filled(name: str, tensor: Tensor) -> Tensor:
    """Return uniform numbers from SHAKE-256 of the name, of a size that keeps activations of one order (He et al. 2015)."""
    if name.endswith(("running_var", "bn.weight")):
        return torch.ones_like(tensor)
    if name.endswith(("running_mean", "num_batches_tracked")):
        return torch.zeros_like(tensor)
    bound = {"fc.weight": 3.0, "fc.bias": 0.1}.get(name, 0.1)
    if name.endswith("conv.weight"):
        bound = math.sqrt(6 / tensor[0].numel())
    stream = hashlib.shake_256(name.encode()).digest(4 * tensor.numel())
    units = (np.frombuffer(stream, "<u4") >> 8).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return torch.from_numpy(units * np.float32(bound)).reshape(tensor.shape)


def images(count: int, first: int) -> np.ndarray:
    """Return images (count, 3, 32, 32) by formula: waves of their own direction, every third coarser and nearly grey."""
    y, x = np.mgrid[0:32, 0:32] / 32
    stack = []
    for number in range(first, first + count):
        a, b, c = (((number * step) % 97) / 97 for step in (31, 53, 71))
        fine, colour = (1, 0.1) if number % 3 == 0 else (8, 1)
        waves = [np.sin(6.28 * (colour * k * a + fine * b * x + fine * c * y * (1 + colour * k))) for k in range(3)]
        stack.append([127.5 + (40 + 80 * a) * wave + 60 * (b - 0.5) for wave in waves])
    return np.clip(np.round(stack), 0, 255).astype(np.uint8)
