"""The sinusoidal embedding of the diffusion step that the DiT and the UNet share."""

import math

import torch
from torch import Tensor

LONGEST_PERIOD = 10000


def embed_timesteps(t: Tensor, size: int) -> Tensor:
    """Return cosines, then sines, of t: (N,) at size/2 geometric frequencies from 1 to 1/10000, as (N, size) float32.

    Source: Vaswani et al. 2017 in the order of Nichol & Dhariwal 2021. An odd size ends with a zero. The frequencies
    are single precision, as in the code that trained the published checkpoints: at t = 999 one more digit shows.
    """
    half = size // 2
    steps = torch.arange(half, dtype=torch.float32, device=t.device)
    frequencies = torch.exp(-math.log(LONGEST_PERIOD) * steps / half)
    angles = t.float()[:, None] * frequencies  # (N, half)
    embedding = torch.cat([angles.cos(), angles.sin()], dim=1)
    return torch.nn.functional.pad(embedding, (0, size % 2))
