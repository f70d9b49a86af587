"""The errors of the batches that are scored, kept on the disk while the others are not: a killed scoring goes on there."""

import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from benchmark.declaring.spec import Spec
from benchmark.files import write_bytes
from benchmark.images.datasets import Subset
from benchmark.recording.record import METRIC_VERSION
from benchmark.running.leftovers import PARTIAL
from benchmark.running.processes import ALONE, Processes
from benchmark.training.checkpoint import weights_digest
from benchmark.training.loop import Interrupted

__all__ = ["PARTIAL", "PartialScores", "depends_on", "stopped"]

OFTEN, SHARE = 0.5, 20  # seconds between two writes, and how many times what a write takes: at most a twentieth of the time


class PartialScores:
    """One file in a run's folder: the errors (4, pairs) of the first pairs of each side, in their order.

    `identity` names all that they depend on (weights, images, seed, steps, batch); a file of another identity, or a
    damaged one, counts as none. Only the first process reads and writes.
    """

    def __init__(self, path: Path, identity: str, *, seconds: float = 60.0, processes: Processes = ALONE) -> None:
        self.path, self.identity, self.seconds, self.processes = path, identity, seconds, processes
        self._found: dict[str, Tensor] = processes.ask_first(self._read)
        self._sides: dict[str, list[Tensor]] = {side: [errors] for side, errors in self._found.items()}
        self._written, self._took = time.monotonic(), 0.0
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
        if time.monotonic() - self._written >= min(self.seconds, max(OFTEN, SHARE * self._took)):
            self.write()

    def write(self) -> None:
        """Write what is kept and not yet written, atomically."""
        if self._new:
            began = time.monotonic()
            joined = {side: torch.cat(parts, dim=1).contiguous() for side, parts in self._sides.items()}
            write_bytes(self.path, save(joined, {"identity": self.identity}))
            self._new, self._written = False, time.monotonic()
            self._took = self._written - began

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


def depends_on(network: nn.Module, subset: Subset, spec: Spec, steps: int, images: int, peer_pairs: int) -> str:
    """Return as one line what the scores of a network on the images of a run depend on."""
    facts = {
        "weights": weights_digest(network.state_dict()),
        "train": subset.digest,
        "test": subset.test_digest,
        "seed": spec.seed,
        "steps": steps,
        "images": images,
        "pairs": peer_pairs,
        "peers": ",".join(peer.digest for peer in subset.peers),
        "version": METRIC_VERSION,
    } | ({"labels": subset.labels_digest} if subset.labels_digest else {})
    return " ".join(f"{name}={facts[name]}" for name in sorted(facts))


def stopped(where: str, partial: PartialScores | None) -> Interrupted:
    """Keep what is scored, and return what is raised where a person asks to stop."""
    if partial:
        partial.write()
    return Interrupted(
        f"{where}{'; what is scored is kept' if partial else ''}. The same command {'resumes' if partial else 'begins anew'}."
    )
