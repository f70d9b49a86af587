"""A small extractor that needs no download: three convolutions with fixed random weights.

The Fréchet distance of its features, `fd_randconv`, is a smoke check of sample quality at small resolutions. It is
not FID: it compares with no number of the literature, and it tells a bad model from a good one, not two good ones.
"""

import hashlib
import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmark.quality.features import Extractor

NAME = "randconv"
VERSION = "1"
CHANNELS = (16, 32, 64)  # mean and sd of each channel: 224 features
STRIDES = (1, 1, 2)
SLOPE = 0.2  # of the leaky ReLU below 0


def weights() -> list[np.ndarray]:
    """Return the weights of the convolutions, (out, in, 3, 3) float32, the same bytes on every machine.

    Uniform with the variance that keeps the second moment of the activations (He et al. 2015), from the bytes of
    SHAKE-256 over the layer's name: each number is a multiple of 2^-23 in [-1, 1), times the layer's bound.
    """
    made, inputs = [], 3
    for layer, outputs in enumerate(CHANNELS):
        count = outputs * inputs * 9
        stream = hashlib.shake_256(f"{NAME}-{VERSION}:{layer}".encode()).digest(4 * count)
        units = (np.frombuffer(stream, "<u4") >> 8).astype(np.float32) * np.float32(2**-23) - np.float32(1)
        bound = np.float32(math.sqrt(6 / ((1 + SLOPE**2) * inputs * 9)))
        made.append((units * bound).reshape(outputs, inputs, 3, 3))
        inputs = outputs
    return made


def extractor(device: torch.device) -> Extractor:
    """Return the extractor on a device."""
    kernels = weights()
    digest = hashlib.sha256(b"".join(kernel.astype("<f4").tobytes() for kernel in kernels)).hexdigest()
    on_device = [torch.from_numpy(kernel).to(device) for kernel in kernels]
    return Extractor(NAME, digest, VERSION, {"features": 2 * sum(CHANNELS)}, lambda images: {"features": features(images, on_device)})


def features(images: Tensor, kernels: list[Tensor]) -> Tensor:
    """Return mean and sd of every channel over the positions, (N, 224), of uint8 images (N, 3, R, R), R at least 2."""
    x = images.float() / 127.5 - 1
    found = []
    for kernel, stride in zip(kernels, STRIDES, strict=True):
        x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode="reflect"), kernel, stride=stride)
        x = functional.leaky_relu(x, SLOPE)
        found += [x.mean(dim=(2, 3)), x.std(dim=(2, 3), correction=0)]
    return torch.cat(found, dim=1)
