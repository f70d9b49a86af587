"""The Inception network of FID, through torch-fidelity: where its weights lie, proof that they are the published ones,
and all its features in one pass.

Three layers are taken: `pool` (2048, FID, KID, precision and recall), `logits` (1008, without the bias; Inception Score)
and `spatial`, which torch-fidelity does not offer: the first 7 channels of the 1x1 branch of Mixed_6d after its ReLU,
17 x 17 each, 2023 features (sFID, Nash et al. 2021). That is `mixed_6/conv:0` of the TensorFlow graph, whose counting
calls Mixed_6a `mixed_3`.
"""

import hashlib
import io
import os
import pickle
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark.errors import BenchError, UsageError
from benchmark.files import install, write_bytes
from benchmark.quality.features import Extractor

NAME = "inception-v3-compat"
VERSION = "1"
PUBLISHED = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"  # sha256; its first 8 digits are in the file's name
PUBLISHED_BYTES = 95_628_359
LAYERS = {"pool": 2048, "logits": 1008, "spatial": 2023}
VARIABLE = "BENCH_INCEPTION_WEIGHTS"

Progress = Callable[..., None]


def extractor(weights: Path | None, device: torch.device, *, allow_other: bool = False) -> Extractor:
    """Return the extractor on a device; `weights` None looks where BENCH_INCEPTION_WEIGHTS and torch-fidelity keep them.

    The very bytes that were checked are the ones that are loaded.
    """
    path = weights or find()
    content = _read(path)
    digest = hashlib.sha256(content).hexdigest()
    official = digest == PUBLISHED
    if not official:
        if not allow_other:
            raise UsageError(
                f"{path} has the sha256 {digest}, not that of the published Inception weights ({PUBLISHED}), so no "
                "number made with it is an FID. `benchmark.quality.inception.setup()` fetches those; `allow_other_weights=True` "
                "takes these, under a name of their own."
            )
        _check_tensors(content, path)
    network = _network(content, path).to(device)
    name = NAME if official else f"{NAME}@{digest[:8]}"
    return Extractor(name, digest, VERSION, LAYERS, lambda images: forward(network, images))


def forward(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return pool (N, 2048), logits (N, 1008) and spatial (N, 2023) of uint8 images (N, 3, R, R), from one pass."""
    seen: list[Tensor] = []
    branch = network.get_submodule("Mixed_6d.branch1x1")
    hook = branch.register_forward_hook(lambda module, inputs, output: seen.append(output[:, :7].flatten(1)))
    try:
        pool, logits = network(images)
    finally:
        hook.remove()
    return {"pool": pool, "logits": logits, "spatial": seen[0]}


def find() -> Path:
    """Return where the weights lie; raise UsageError saying how to get them."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if (path := cached()).exists():
        return path
    raise UsageError(
        f"The Inception weights are not here ({path} does not exist), and a run downloads nothing. Fetch them once "
        f"with `benchmark.quality.inception.setup()`, or name a copy: `weights=FILE`, or {VARIABLE}. Without them, "
        "`metrics=['fd_randconv']` gives a number that is not FID."
    )


def cached() -> Path:
    """Return where torch-fidelity keeps its weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / _address().rpartition("/")[2]


def setup(progress: Progress | None = None, *, address: str | None = None, sha256: str = PUBLISHED) -> tuple[Path, bool]:
    """Fetch the published weights to where torch-fidelity keeps them; return the path and whether they were fetched."""
    path = cached()
    if path.exists():
        found = hashlib.sha256(_read(path)).hexdigest()
        if found != sha256:
            raise BenchError(
                f"{path} has the sha256 {found}, not that of the published weights ({sha256}). Remove it, and "
                "`benchmark.quality.inception.setup()` fetches them."
            )
        return path, False
    content = _download(address or _address(), path, progress)
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise BenchError(
            f"What was fetched from {address or _address()} has the sha256 {found}, not {sha256}: nothing was kept. "
            "A proxy may have answered in its place; try again, or copy the file by hand."
        )
    write_bytes(path, content)
    return path, True


def _download(address: str, path: Path, progress: Progress | None) -> bytes:
    """Return what lies at an address, at most twice the published size."""
    limit, content = 2 * PUBLISHED_BYTES, bytearray()
    try:
        with urllib.request.urlopen(address, timeout=30) as answer:
            while piece := answer.read(1 << 20):
                content += piece
                if len(content) > limit:
                    raise BenchError(f"{address} sends more than {limit:,} bytes, so it is not the weights. Nothing was kept.")
                if progress:
                    progress(len(content), PUBLISHED_BYTES)
    except (OSError, urllib.error.URLError, ValueError) as problem:
        raise BenchError(
            f"The Inception weights cannot be fetched from {address}: {problem}. Where this machine has no network, "
            f"fetch that file elsewhere and put it at {path}, or name it with {VARIABLE}."
        ) from None
    return bytes(content)


def _address() -> str:
    return _torch_fidelity().URL_INCEPTION_V3


def _torch_fidelity() -> Any:
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as problem:
        raise UsageError(f"Inception metrics need torch-fidelity, which is not here ({problem}): {install('quality')}.") from None
    return feature_extractor_inceptionv3


def _network(content: bytes, path: Path) -> nn.Module:
    """Build torch-fidelity's network from checked bytes: it unpickles them, so nothing unchecked may come here."""
    build = _torch_fidelity().FeatureExtractorInceptionV3
    try:
        return build(NAME, ["2048", "logits_unbiased"], feature_extractor_weights_path=io.BytesIO(content))
    except (RuntimeError, KeyError, AttributeError, TypeError, pickle.UnpicklingError, EOFError) as problem:
        raise BenchError(f"{path} does not hold the weights of {NAME}: {str(problem).splitlines()[0]}") from None


def _check_tensors(content: bytes, path: Path) -> None:
    """Prove that foreign weights are a table of tensors and nothing that runs when it is opened."""
    try:
        found = torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError) as problem:
        raise BenchError(f"{path} is no file of plain tensors: {str(problem).splitlines()[0]}") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise BenchError(f"{path} holds something else than a table of tensors; the weights of {NAME} are needed.")
    if bad := [name for name, value in found.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise BenchError(f"{path} holds NaN or inf in '{bad[0]}'; the weights of {NAME} are needed.")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise UsageError(
            f"The Inception weights {path} cannot be read: {problem.strerror}. Name a file that can, or fetch "
            "them with `benchmark.quality.inception.setup()`."
        ) from None
