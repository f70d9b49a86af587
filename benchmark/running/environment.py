"""What a run happens on: versions, commit, processor, device."""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import torch

from benchmark import __version__
from benchmark.errors import UsageError
from benchmark.files import PROJECT
from benchmark.recording.record import Environment

KEPT_BYTES = 2**30
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def choose_device(name: str) -> torch.device:
    """Return the device of that name; 'auto' is a GPU where there is one, else the CPU."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # a device that holds no numbers (meta) says so here
    except (RuntimeError, AssertionError, NotImplementedError) as problem:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(problem).splitlines()[0]
        raise UsageError(f"`device={name!r}` cannot be used: {reason} There is: {', '.join(there)}.") from None
    return device


def device_name(device: torch.device) -> str:
    """Return what the device calls itself."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type}: {_processor()}"


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory_bytes(device: torch.device) -> int:
    """Return all the memory of a device; on the CPU that of this machine, or of the container."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(whole, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return whole


def keep_memory() -> None:
    """Have this process keep up to a GiB that it has freed: the tensors of the next step lie where those of the last one lay.

    Else the kernel takes every large tensor's pages back and clears new ones, 3 to 10% of a step or a score on a CPU. It is
    glibc alone that is asked; other allocators, and other systems, are left as they are.
    """
    change = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if change is not None:
        change(_M_MMAP_THRESHOLD, KEPT_BYTES)
        change(_M_TRIM_THRESHOLD, KEPT_BYTES)


def describe() -> Environment:
    """Return the environment of this process, without any path or host name."""
    commit = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "--", "benchmark", "registry", "requirements.lock")
    return Environment(
        benchmark=__version__,
        commit=commit,
        modified=bool(changed) if commit else None,
        python=platform.python_version(),
        torch=str(torch.__version__),
        platform=f"{platform.system()} {platform.machine()}",
        processor=_processor(),
    )


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=PROJECT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
