"""The errors of the batches that are scored, kept on the disk while the others are not: a killed scoring goes on there."""

import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from benchmark.files import write_bytes
from benchmark.running.processes import ALONE, Processes

PARTIAL = "partial_scores.safetensors"  # in the run's folder


class PartialScores:
    """One file in a run's folder: the errors (4, pairs) of the first pairs of each side, in their order.

    `identity` names all that they depend on (weights, images, seed, steps, batch); a file of another identity, or a
    damaged one, counts as none. Only the first process reads and writes.
    """

    def __init__(self, path: Path, identity: str, *, seconds: float = 60.0, processes: Processes = ALONE) -> None:
        self.path, self.identity, self.seconds, self.processes = path, identity, seconds, processes
        self._found: dict[str, Tensor] = processes.ask_first(self._read)
        self._sides: dict[str, list[Tensor]] = {side: [errors] for side, errors in self._found.items()}
        self._written = time.monotonic()
        self._new = False

    def errors(self, side: str, start: int, count: int) -> Tensor | None:
        """Return the kept errors (4, count) of the pairs from `start` on, or None."""
        found = self._found.get(side)
        return found[:, start : start + count] if found is not None and found.shape[1] >= start + count else None

    def keep(self, side: str, start: int, errors: Tensor) -> None:
        """Take the errors (4, n) of the pairs from `start` on; write them to the disk now and then."""
        if not self.processes.first:
            return
        kept = self._sides.setdefault(side, [])
        if excess := sum(part.shape[1] for part in kept) - start:  # found pairs that end within this turn of the processes
            kept[:] = [torch.cat(kept, dim=1)[:, :-excess]]
        kept.append(errors)
        self._new = True
        if time.monotonic() - self._written >= self.seconds:
            self.write()

    def write(self) -> None:
        """Write what is kept and not yet written, atomically."""
        if self._new:
            joined = {side: torch.cat(parts, dim=1).contiguous() for side, parts in self._sides.items()}
            write_bytes(self.path, save(joined, {"identity": self.identity}))
            self._new, self._written = False, time.monotonic()

    def drop(self) -> None:
        """Remove the file: the scores are in the record."""
        if self.processes.first:
            self.path.unlink(missing_ok=True)
        self._new = False

    def _read(self) -> dict[str, Tensor]:
        try:
            with safe_open(self.path, framework="pt") as file:
                if (file.metadata() or {}).get("identity") != self.identity:
                    return {}
                return {side: file.get_tensor(side) for side in file.keys()}
        except (OSError, SafetensorError):
            return {}


def identity(**facts: object) -> str:
    """Return what scores depend on as one line."""
    return " ".join(f"{name}={facts[name]}" for name in sorted(facts))
