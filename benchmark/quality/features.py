"""Images to features: one pass of a fixed network over a packed array, kept on disk chunk by chunk.

    <folder>/000000-000256.safetensors     features of images 0 ... 255, layer by layer, with the digests of both
    <folder>/gaussian-<layer>-<n>.safetensors   mean and covariance of the first n

A killed extraction goes on after its last whole chunk. Chunks and batches begin at fixed places of the array, so that
the resumed features are those of an uninterrupted pass. What is on disk is compared with its digests on every use.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from torch import Tensor

from benchmark.errors import BenchError
from benchmark.files import write_bytes
from benchmark.images.packing import Stack, digest
from benchmark.quality.frechet import Gaussian, gaussian

Progress = Callable[..., None]
Arrays = dict[str, np.ndarray]

CHUNK = 256  # images between two states that survive a kill


@dataclass(frozen=True)
class Extractor:
    """A fixed network from uint8 images (N, 3, R, R) to features (N, D), layer by layer, and what identifies it."""

    name: str
    weights_digest: str
    version: str
    layers: Mapping[str, int]  # layer -> D
    network: Callable[[Tensor], dict[str, Tensor]]

    @property
    def key(self) -> str:
        """The name of a folder of its features."""
        return f"{self.name.partition('@')[0]}-{self.weights_digest[:16]}-{self.version}"


@dataclass(frozen=True)
class Features:
    """The features of `count` images on disk."""

    folder: Path
    count: int
    chunks: tuple[Path, ...]
    digest: str  # of images, extractor and features

    def blocks(self, layer: str) -> Iterator[np.ndarray]:
        """Yield the features (n_i, D) of one layer, float32, chunk by chunk."""
        for path in self.chunks:
            with safe_open(path, framework="numpy") as file:
                yield file.get_tensor(layer)

    def layer(self, layer: str) -> np.ndarray:
        """Return all features (count, D) of one layer, float32."""
        return np.concatenate(list(self.blocks(layer)))

    def gaussian(self, layer: str) -> Gaussian:
        """Return mean and covariance of one layer, computed once for these very features."""
        path = self.folder / f"gaussian-{layer}-{self.count}.safetensors"
        wanted = {"features": self.digest, "layer": layer, "count": str(self.count)}
        if path.exists():
            kept = _read(path, wanted)
            return Gaussian(self.count, kept["mean"], kept["covariance"])
        made = gaussian(self.blocks(layer))
        _write(path, {"mean": made.mean, "covariance": made.covariance}, wanted)
        return made


def check_images(images: Stack, what: str) -> None:
    """Refuse what is not a stack of RGB images of grey levels 0 ... 255."""
    if images.dtype.kind == "f" and not np.isfinite(images[: len(images)]).all():
        raise BenchError(f"The {what} hold NaN or inf. Make them anew; only uint8 images in [0, 255] can be scored.")
    if images.dtype != np.uint8:
        raise BenchError(f"The {what} are {images.dtype}; only uint8 images in [0, 255] can be scored.")
    if len(images.shape) != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or not len(images):
        raise BenchError(f"The {what} have the shape {images.shape}; N x 3 x R x R with N at least 1 is needed.")


def extract(
    extractor: Extractor,
    images: Stack,
    folder: Path,
    what: str,
    *,
    device: torch.device,
    batch: int = 64,
    progress: Progress | None = None,
) -> Features:
    """Return the features of uint8 images (N, 3, R, R) in `folder`, computing the chunks that are not there yet.

    Memory is bounded by a chunk. `what` names the images in errors. Raise BenchError where a chunk on disk belongs to
    other images or another extractor, or where a feature is not finite.
    """
    check_images(images, what)
    paths, digests = [], []
    for start in range(0, len(images), CHUNK):
        chunk = np.array(images[start : start + CHUNK])  # torch wants memory that it may write
        path = folder / f"{start:06}-{start + len(chunk):06}.safetensors"
        wanted = {"images": digest(chunk), "extractor": extractor.name, "weights": extractor.weights_digest, "version": extractor.version}
        if path.exists():
            found = _digest(_read(path, wanted))
        else:
            made = _features(extractor, chunk, what, device, batch)
            found = _digest(made)
            _write(path, made, wanted)
        paths.append(path)
        digests += [*wanted.values(), found]
        if progress:
            progress(start + len(chunk), len(images))
    together = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return Features(folder, len(images), tuple(paths), together)


@torch.no_grad()
def _features(extractor: Extractor, chunk: np.ndarray, what: str, device: torch.device, batch: int) -> Arrays:
    outputs = [extractor.network(torch.from_numpy(chunk[i : i + batch]).to(device)) for i in range(0, len(chunk), batch)]
    made = {layer: torch.cat([output[layer] for output in outputs]).float().cpu().numpy() for layer in extractor.layers}
    for layer, width in extractor.layers.items():
        if made[layer].shape != (len(chunk), width):
            raise BenchError(f"The extractor {extractor.name} gives {layer} of shape {made[layer].shape}, not {(len(chunk), width)}.")
        if not np.isfinite(made[layer]).all():
            raise BenchError(
                f"The extractor {extractor.name} gives NaN or inf for some of the {what}. Its weights are no "
                "sound Inception weights; `benchmark.quality.inception.setup()` fetches those."
            )
    return made


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return hashlib.sha256("".join(f"{name}:{digest(array)}" for name, array in sorted(arrays.items())).encode()).hexdigest()


def _write(path: Path, arrays: Arrays, identity: dict[str, str]) -> None:
    write_bytes(path, save(arrays, metadata=identity | {"content": _digest(arrays)}))


def _read(path: Path, wanted: dict[str, str]) -> Arrays:
    """Read what was cached; raise BenchError where it is damaged or was made from something else than `wanted`."""
    way_out = "Remove it, and it is computed again."
    try:
        with safe_open(path, framework="numpy") as file:
            identity = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except (OSError, SafetensorError) as problem:
        raise BenchError(f"The cached features {path} cannot be read: {problem}. {way_out}") from None
    for name, value in wanted.items():
        if identity.get(name) != value:
            raise BenchError(
                f"The cached features {path} were made with {name} = {identity.get(name)}, but {name} = {value} is asked for. {way_out}"
            )
    if identity.get("content") != _digest(arrays):
        raise BenchError(f"The cached features {path} are damaged: their digest is not the one written with them. {way_out}")
    return arrays
