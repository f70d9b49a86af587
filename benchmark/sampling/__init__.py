"""Network to samples: what is asked for, how an image is drawn, and the samples that a run keeps."""

from benchmark.sampling.drawing import draw_batches
from benchmark.sampling.request import DEFAULT_STEPS, Precision, Request, request_of
from benchmark.sampling.runs import Samples, sample_loaded, sample_run, samples

__all__ = [
    "DEFAULT_STEPS",
    "Precision",
    "Request",
    "Samples",
    "draw_batches",
    "request_of",
    "sample_loaded",
    "sample_run",
    "samples",
]
