"""One run on several processes (torchrun): who has which part of a batch, who decides, and what is summed.

Every process draws the random numbers of the whole batch and works on its share, so that the batch and the noise are
the same on 1 or k processes. Gradients are summed in one piece after the backward pass, once all have agreed that none
ran out of memory. Decisions that look at a clock or at a file are the first process's.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from benchmark.errors import BenchError, UsageError

T = TypeVar("T")
PATIENCE = timedelta(minutes=30)  # for a process that packs images or scores, while others wait for it


class Lost(BenchError):
    """Another process of the run is gone."""


class Elsewhere(BenchError):
    """The first process could not go on, and has said why."""


@dataclass(frozen=True)
class Processes:
    """The processes of one run; `rank` 0 is the first, which alone writes and prints."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Return this process's part of `count` images: contiguous parts, as equal as can be."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Tell for each flag whether it is set in any process; the device is not waited for."""
        if self.size == 1:
            return flags
        said = torch.tensor(flags, dtype=torch.int32)
        with _together():
            distributed.all_reduce(said, op=distributed.ReduceOp.MAX)
        return tuple(bool(one) for one in said.tolist())

    def total(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if self.size > 1:
            with _together():
                distributed.all_reduce(tensor)
        return tensor

    def total_gradients(self, network: nn.Module) -> None:
        """Sum the gradients over the processes; each has weighted its own by its share of the batch."""
        if self.size == 1:
            return
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        if not gradients:
            return
        joined = self.total(torch.cat([gradient.flatten() for gradient in gradients]))
        parts = joined.split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])

    def spread(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the weights and buffers of the first."""
        if self.size == 1:
            return
        with _together(), torch.no_grad():
            for module in modules:
                for tensor in (*module.parameters(), *module.buffers()):
                    distributed.broadcast(tensor.detach(), src=0)

    def only_first(self, work: Callable[[], T]) -> T | None:
        """Do something in the first process alone, while the others wait; where it fails, so do they."""
        done, problem = None, None
        if self.first:
            try:
                done = work()
            except BenchError as raised:
                problem = raised
        (failed,) = self.any(problem is not None)
        if problem:
            raise problem
        if failed:
            raise Elsewhere("The first process of this run could not go on.")
        return done

    def ask_first(self, question: Callable[[], T]) -> T:
        """Let the first process answer, and return its answer in every process."""
        box = [self.only_first(question)]
        if self.size > 1:
            with _together():
                distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        return box[0]  # type: ignore[return-value]  # the first process's

    def in_turn(self, work: Callable[[], T]) -> T:
        """Do the same in every process, in the first before the others: what it leaves on the disk they find."""
        done = self.only_first(lambda: [work()])
        return done[0] if done else work()


ALONE = Processes()


def declared() -> Processes:
    """Return what torchrun says of this process; one process alone where it was not started so."""
    rank, size, address = (os.environ.get(name) for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"))
    return Processes(int(rank), int(size)) if rank and size and address else ALONE


def own_device(device: torch.device) -> torch.device:
    """Return this process's own GPU, where there are several processes and `device` names no one of them."""
    if declared().size == 1 or device.type != "cuda" or device.index is not None:
        return device
    local, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if local >= there:
        raise UsageError(
            f"There are {local + 1} or more processes on this machine, and {there} GPUs: one process needs one "
            f"GPU. Start it with `torchrun --nproc-per-node {there}`, or with `device='cpu'`."
        )
    return torch.device("cuda", local)


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started, if it did, for the time of the block."""
    processes = declared()
    if processes.size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as problem:
        raise BenchError(
            f"The {processes.size} processes of this run did not find each other: {problem}. "
            "Start them with torchrun, which says to each where the others are."
        ) from None
    try:
        yield processes
    except BenchError as problem:
        if processes.first:
            raise
        if isinstance(problem, Elsewhere) or problem.exit_code == 130:  # the first process says it
            raise SystemExit(problem.exit_code) from None
        raise type(problem)(f"Process {processes.rank + 1} of {processes.size}: {problem}") from None
    finally:
        distributed.destroy_process_group()


@contextmanager
def _together() -> Iterator[None]:
    """Say in words that another process is gone."""
    try:
        yield
    except RuntimeError as problem:
        raise Lost(
            "Another process of this run was lost, so it ends here. The last checkpoint is intact: the same command "
            f"resumes from it, on any number of processes. ({str(problem).splitlines()[0][:160]})"
        ) from None
