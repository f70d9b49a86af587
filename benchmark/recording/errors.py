"""The error of each image at each noise level, kept beside a record: the same numbers can be computed again from it.

A file holds, for each side that was scored ('train', 'test', 'peer 6', …), the root of the mean over the noise draws of
the squared error of x0_hat (clipped reading), (images, diffusion steps), float16: to 0.05%, which is 0.004 dB of one image.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmark.errors import BenchError
from benchmark.files import write_bytes

FILE = "errors.safetensors"  # in the run's folder


def write(path: Path, matrices: Mapping[str, np.ndarray], record_id: str, diffusion_steps: tuple[int, ...]) -> None:
    """Write the matrices of a record, float16 (images, steps) by side."""
    facts = {"record": record_id, "diffusion_steps": json.dumps(list(diffusion_steps))}
    write_bytes(path, save({name: np.ascontiguousarray(matrix) for name, matrix in matrices.items()}, facts))


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the matrices by side; raise BenchError naming the file."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as problem:
        raise BenchError(f"The errors {path} cannot be read: {problem}") from None


def psnr(matrix: np.ndarray) -> list[float]:
    """Return the PSNR in dB at each step, 10 (log10 4 - log10 of the mean square over the images)."""
    return [10 * (math.log10(4) - math.log10(mse)) for mse in np.square(matrix.astype(np.float64)).mean(axis=0)]
