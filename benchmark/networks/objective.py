"""What a network is trained to estimate and how its error is weighted, and the clean image that its estimate stands for.

At one noise level x = a x_0 + s eps, and each of the four predictions is a linear function of x and x_0. So an error e of
x_0 is an error of the noise of a/s e, of the velocity of 1/s e and of the flow of (a + s)/s e: the loss of one is that of
another times a factor that depends on the level alone (Salimans & Ho 2022, section 4).
"""

from typing import NamedTuple

from torch import Tensor

from benchmark.declaring.recipe import Prediction, Recipe, Weighting


class Levels(NamedTuple):
    """a = sqrt(abar_t) and s = sqrt(1 - abar_t), each (N, 1, 1, 1), for one step per image."""

    signal: Tensor
    sigma: Tensor


class Objective(NamedTuple):
    """What is estimated, and which squared error weighs the same at every level."""

    prediction: Prediction
    weighting: Weighting
    gamma: float

    @property
    def plain(self) -> bool:
        """Whether every level has the weight 1."""
        return self.prediction == self.weighting


NOISE = Objective("noise", "noise", 5.0)


def objective_of(recipe: Recipe) -> Objective:
    """Return the objective of a recipe."""
    return Objective(recipe.prediction, recipe.weighting, recipe.min_snr_gamma)


def target(x0: Tensor, noise: Tensor, level: Levels, prediction: Prediction) -> Tensor:
    """Return what a network is to estimate, (N, C, R, R)."""
    if prediction == "noise":
        return noise
    if prediction == "data":
        return x0
    return level.signal * noise - level.sigma * x0 if prediction == "velocity" else noise - x0


def clean(estimate: Tensor, xt: Tensor, level: Levels, prediction: Prediction) -> Tensor:
    """Return x_0 from an estimate, not clipped: (N, C, R, R)."""
    if prediction == "noise":
        return (xt - level.sigma * estimate) / level.signal
    if prediction == "data":
        return estimate
    if prediction == "velocity":
        return level.signal * xt - level.sigma * estimate
    return (xt - level.sigma * estimate) / (level.signal + level.sigma)


def weights(objective: Objective, level: Levels) -> Tensor:
    """Return the factor of the squared error of what is predicted, (N, 1, 1, 1)."""
    return _of_clean(objective.weighting, level, objective.gamma) / _of_clean(objective.prediction, level, objective.gamma)


def _of_clean(weighting: Weighting, level: Levels, gamma: float) -> Tensor:
    """Return the weight that a weighting gives to the squared error of x_0; SNR = (a / s)^2."""
    ratio = level.signal / level.sigma
    factors = {
        "noise": ratio.square(),
        "data": ratio * 0 + 1,
        "velocity": 1 + ratio.square(),
        "flow": (1 + ratio).square(),
        "min_snr": ratio.square().clamp(max=gamma),
    }
    return factors[weighting]
