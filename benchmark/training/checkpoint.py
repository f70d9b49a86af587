"""Checkpoints that survive a kill at any moment: written aside, fsynced, renamed, checked against their digests."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmark.errors import BenchError
from benchmark.networks.memory import out_of_memory

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
    """Write folder/<step>/ atomically and drop all but the last two; raise BenchError where the disk refuses.

    Whatever lies there with a later step was passed over when the run was resumed: it goes, too.
    """
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
        before = "The one before is intact; free" if any(path != target for path in _steps(folder)) else "There is none before it. Free"
        raise BenchError(
            f"The checkpoint {target} cannot be written: {problem}. {before} space or make the folder writable, then run again."
        ) from None
    kept = [path for path in _steps(folder) if int(path.name) <= checkpoint.step][-KEPT:]
    for old in _steps(folder):
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)
    return target


def last(folder: Path, warn: Callable[[str], None], unfit: Callable[[Checkpoint], str | None] = lambda saved: None) -> Checkpoint | None:
    """Read the newest intact checkpoint; name every damaged one that is passed over. None where there is none.

    `unfit` says why a checkpoint that is whole is none of this run.
    """
    for leftover in folder.glob(".writing-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    found = _steps(folder)
    for place, path in reversed(list(enumerate(found))):
        saved = _read(path, unfit)
        if isinstance(saved, Checkpoint):
            return saved
        way_on = "the one before it is used" if place else "there is none before it"
        warn(f"The checkpoint {path} is damaged ({saved}); {way_on}.")
    return None


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of weights, in name order."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _steps(folder: Path) -> list[Path]:
    return sorted((path for path in folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir()), key=lambda path: int(path.name))


def _contiguous(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def _read(path: Path, unfit: Callable[[Checkpoint], str | None]) -> Checkpoint | str:
    """Return a checkpoint, or what is wrong with it, whatever its files hold: no code of theirs is run."""
    try:
        sums = json.loads((path / _SUMS).read_text())
        if wrong := [name for name in _FILES if _sha256(path / name) != sums.get(name)]:
            return f"{wrong[0]} does not match its checksum"
        state = torch.load(path / _FILES[2], weights_only=True, map_location="cpu")
        saved = Checkpoint(state.pop("step"), load_file(path / _FILES[0]), load_file(path / _FILES[1]), state)
        if saved.step != int(path.name):
            return f"it says step {saved.step}"
        return unfit(saved) or saved
    except UnpicklingError:
        return f"{_FILES[2]} is no file of plain tensors: it is not opened, which could run code"
    except Exception as problem:  # its sums are right and its content is not: the libraries raise what they like
        if out_of_memory(problem):
            raise BenchError(f"The checkpoint {path} cannot be read: memory does not suffice.") from None
        lines = str(problem).strip().splitlines() or [""]
        return f"{type(problem).__name__}: {lines[0][:200]}"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
