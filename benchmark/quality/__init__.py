"""Samples to scores: FID and its company through torch-fidelity's Inception, and `fd_randconv` where that is not here.

A number is called FID only where the published Inception weights made it. Every other has a name of its own.
"""

from benchmark.quality.choice import INCEPTION, METRICS, Quality, chosen, prepare
from benchmark.quality.reference import Reference, reference, trained_on
from benchmark.quality.scores import score

__all__ = ["INCEPTION", "METRICS", "Quality", "Reference", "chosen", "prepare", "reference", "score", "trained_on"]
