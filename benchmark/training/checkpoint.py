"""Checkpoints that survive a kill at any moment: written aside, fsynced, renamed, checked against their digests."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.errors import BenchError

KEPT = 2  # the last, and the one before in case the last is damaged
_FILES = ("network.safetensors", "ema.safetensors", "state.pt")
_SUMS = "sha256.json"


class Checkpoint(NamedTuple):
    """Everything a run needs to go on: both weights and a state of plain tensors, numbers and lists."""

    step: int
    network: dict[str, Tensor]
    ema: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write folder/<step>/ atomically and drop all but the last two; raise BenchError where the disk refuses."""
    target = folder / f"{checkpoint.step:09d}"
    aside = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=folder, prefix=".writing-"))
        save_file(_contiguous(checkpoint.network), aside / _FILES[0])
        save_file(_contiguous(checkpoint.ema), aside / _FILES[1])
        torch.save(checkpoint.state | {"step": checkpoint.step}, aside / _FILES[2])
        (aside / _SUMS).write_text(json.dumps({name: _sha256(aside / name) for name in _FILES}))
        for name in (*_FILES, _SUMS):
            _fsync(aside / name)
        _fsync(aside)
        if target.exists():
            shutil.rmtree(target)
        os.rename(aside, target)
        _fsync(folder)
    except (OSError, RuntimeError, SafetensorError) as problem:  # the libraries wrap a full disk in their own errors
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
        raise BenchError(
            f"The checkpoint {target} cannot be written: {problem}. "
            "The one before is intact; free space or make the folder writable, then run again."
        ) from None
    for old in _steps(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def last(folder: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Read the newest intact checkpoint; name every damaged one that is passed over. None where there is none."""
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in reversed(_steps(folder)):
        if damage := _damage(path):
            warn(f"The checkpoint {path} is damaged ({damage}); the one before it is used.")
            continue
        state = torch.load(path / _FILES[2], weights_only=True, map_location="cpu")
        return Checkpoint(state.pop("step"), load_file(path / _FILES[0]), load_file(path / _FILES[1]), state)
    return None


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of weights, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _steps(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.name.isdigit())


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def _damage(path: Path) -> str | None:
    try:
        sums = json.loads((path / _SUMS).read_text())
        wrong = [name for name in _FILES if _sha256(path / name) != sums.get(name)]
    except (OSError, ValueError, AttributeError) as problem:
        return str(problem)
    return f"{wrong[0]} does not match its checksum" if wrong else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
