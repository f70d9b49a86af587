"""A network of one weight: what a step holds and takes beside it can be said in closed form."""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """eps_hat = w x: the backward pass keeps x and what the square of the error is taken of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * self.weight
