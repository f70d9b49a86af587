"""The error of each image at each noise level, kept beside a record: the same numbers can be computed again from it.

A file holds, for each side that was scored ('train', 'test', 'peer 6', …), the root of the mean over the noise draws of
the squared error of x0_hat (clipped reading), (images, diffusion steps), float16. A stored root stands for every number
that rounds to it, so a PSNR computed from it is known to a range, about 0.004 dB to either side.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from benchmark.errors import BenchError
from benchmark.files import write_bytes
from benchmark.recording.record import Curves, Membership, Record, Unlabelled

FILE = "errors.safetensors"  # in the run's folder
# 100 dB: an error of a 400th of the step between two uint8 values, and what single precision leaves of a perfect noise
# estimate at the noisiest step. Beyond it the rounding is measured, which no two machines share; an error of 0 has no PSNR.
SMALLEST_MSE = 4e-10
SLACK = 1e-9  # dB: of sums and logarithms in float64

Scores = TypeVar("Scores", Record, Unlabelled)
Range = tuple[float, float]  # the least and the most that a number can have been


def decibel(mse: float) -> float:
    """Return 10 (log10 M^2 - log10 MSE) with M = 2 (Eq. 4), at most 100 dB."""
    return 10 * (math.log10(4) - math.log10(max(mse, SMALLEST_MSE)))


def beside(path: Path) -> Path:
    """Return where the errors of the record at `path` are kept."""
    return path.with_suffix(".safetensors")


def write(path: Path, matrices: Mapping[str, np.ndarray], record_id: str, diffusion_steps: tuple[int, ...]) -> None:
    """Write the matrices of a record, float16 (images, steps) by side."""
    facts = {"record": record_id, "diffusion_steps": json.dumps(list(diffusion_steps))}
    write_bytes(path, save({name: np.ascontiguousarray(matrix) for name, matrix in matrices.items()}, facts))


def read(path: Path) -> dict[str, np.ndarray]:
    """Read the matrices by side; raise BenchError naming the file."""
    try:
        with safe_open(path, framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError, TypeError, AttributeError) as problem:  # the last two of types that numpy does not know
        raise BenchError(f"The errors {path} cannot be read: {problem}") from None


def psnr(matrix: np.ndarray) -> list[float]:
    """Return the PSNR in dB at each step, 10 (log10 4 - log10 of the mean square over the images)."""
    return [decibel(mse) for mse in np.square(matrix.astype(np.float64)).mean(axis=0)]


def psnr_ranges(matrix: np.ndarray) -> list[Range]:
    """Return the least and the most PSNR in dB at each step that rounds to this matrix, float16 (images, steps)."""
    half = np.spacing(matrix).astype(np.float64) / 2  # to the next number, which below a power of two is nearer: never less
    stored = matrix.astype(np.float64)
    most, least = (np.square(root).mean(axis=0) for root in (stored + half, (stored - half).clip(0)))
    return [(decibel(high) - SLACK, decibel(low) + SLACK) for low, high in zip(least, most, strict=True)]


def disagreements(of: Record, matrices: Mapping[str, np.ndarray]) -> list[str]:
    """Say which curves of a record the matrices cannot have given."""
    curves = {"train": of.psnr.clipped.train, "test": of.psnr.clipped.test}
    if of.unlabelled:
        curves |= {f"{side} unlabelled": getattr(of.unlabelled.psnr.clipped, side) for side in ("train", "test")}
    curves |= {f"peer {peer.seed}": peer.psnr for peer in (of.membership.peers if of.membership else ()) if peer.psnr}
    if matrices.keys() != curves.keys():
        return [f"they are of {', '.join(sorted(matrices)) or 'nothing'}, the record has {', '.join(sorted(curves))}"]
    found = []
    for name, curve in curves.items():
        matrix = matrices[name]
        if matrix.ndim != 2 or matrix.dtype != np.float16 or matrix.shape[1] != len(curve) or not len(matrix):
            found.append(f"{name} is {matrix.dtype} {matrix.shape}, not one float16 for each image and diffusion step")
            continue
        if not np.isfinite(matrix).all():
            found.append(f"{name} holds errors that are no finite numbers")
            continue
        ranges = psnr_ranges(matrix)
        if beyond := [place for place, (low, high) in enumerate(ranges) if not low <= curve[place] <= high]:
            first = beyond[0]
            found.append(
                f"PSNR {name} at {len(beyond)} of {len(curve)} diffusion steps, first at the {first + 1}th: {curve[first]:.4f} dB there, "
                f"{ranges[first][0]:.4f} to {ranges[first][1]:.4f} dB from the errors"
            )
    return found


def recomputed(of: Record, matrices: Mapping[str, np.ndarray]) -> Record:
    """Return the record with all that the errors give computed from them: the clipped curves, the headline, the peers' curves.

    The other readings of Eq. 3 and the trajectory, of other passes, stay what they are.
    """
    found = _with_curves(of, *(psnr(matrices[side]) for side in ("train", "test")))
    return replace(
        found,
        membership=of.membership and _of_peers(of.membership, matrices),
        unlabelled=of.unlabelled and _with_curves(of.unlabelled, *(psnr(matrices[f"{side} unlabelled"]) for side in ("train", "test"))),
    )


def _with_curves(of: Scores, train: list[float], test: list[float]) -> Scores:
    measured = replace(of.psnr, clipped=Curves(train=tuple(train), test=tuple(test)))
    return replace(of, psnr=measured, psnr_train=measured.psnr_train, psnr_test=measured.psnr_test, psnr_gap=measured.psnr_gap)


def _of_peers(membership: Membership, matrices: Mapping[str, np.ndarray]) -> Membership:
    curves = [tuple(psnr(matrices[f"peer {peer.seed}"])) if peer.psnr else () for peer in membership.peers]
    return replace(membership, peers=tuple(replace(peer, psnr=curve) for peer, curve in zip(membership.peers, curves, strict=True)))


def keep(run: Path, of: Record, path: Path) -> bool:
    """Copy the errors in the run's folder beside its record at `path`; False where it has none that give this record's curves."""
    made, kept = run / FILE, beside(path)
    if not made.is_file() or disagreements(of, read(made)):
        return False
    content = made.read_bytes()
    if not kept.is_file() or kept.read_bytes() != content:
        write_bytes(kept, content)
    return True
