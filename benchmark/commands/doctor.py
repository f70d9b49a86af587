"""`bench doctor`: one page of facts, for a report of a fault or before a long run. It changes nothing."""

import argparse
import json
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmark import __version__
from benchmark.commands.flags import command, json_flag, registry_flag, store_flag
from benchmark.commands.output import print_json, print_table
from benchmark.commands.place import home
from benchmark.declaring import registry
from benchmark.errors import BenchError
from benchmark.files import PROJECT, existing, gibibytes, is_checkout

PACKAGES = (
    "torch", "torchvision", "numpy", "safetensors", "gin-config", "rich", "natten", "triton", "pillow", "pyarrow", "lmdb", "matplotlib",
    "scipy", "pandas", "mlflow", "dvc", "torch-fidelity", "ray", "submitit",
)  # fmt: skip
SIDE = 32  # tokens a side of the layers whose kernel is told
STALE = 600.0  # seconds without a renewal
SECONDS = 2.0  # for a server to answer

Facts = Iterator[tuple[str, str]]


def add(verbs: Any) -> None:
    """Add `bench doctor`."""
    parser = command(
        verbs,
        "doctor",
        doctor,
        "print one page of facts for a report: versions, devices, kernels, places, leftovers; change nothing",
        "bench doctor",
        "bench doctor --json",
        "bench doctor --registry . --store http://HOST:5000",
    )
    registry_flag(parser)
    store_flag(parser)
    json_flag(parser)


def doctor(options: argparse.Namespace) -> int:
    """`bench doctor`."""
    search = registry.roots(options.registry)
    pages = {
        "versions": list(_versions()),
        "machine": list(_machine()),
        "attention kernels": list(_kernels()),
        "places": list(_places(options.store)),
        "runs": list(_runs()),
        "entries that do not load": list(_entries(search)) or [("none", "as far as their text and that of their modules tell")],
    }
    if options.json:
        print_json({title.replace(" ", "_"): _joined(facts) for title, facts in pages.items()})
        return 0
    for title, facts in pages.items():
        print_table(title, ("what", "what is there"), facts)
    return 0


def _joined(facts: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return facts by what they are of; several of one are one text."""
    found: dict[str, list[str]] = {}
    for what, said in facts:
        found.setdefault(what, []).append(said)
    return {what: "; ".join(said) for what, said in found.items()}


def _versions() -> Facts:
    yield "bench", f"{__version__}, {'a checkout' if is_checkout() else 'installed'} in {PROJECT}"
    yield "python", f"{platform.python_version()} ({sys.executable})"
    yield "system", platform.platform()
    for name in PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _machine() -> Facts:
    import torch

    from benchmark.running.cores import cores
    from benchmark.running.environment import device_name, memory_bytes

    yield "processor", device_name(torch.device("cpu")).removeprefix("cpu: ")
    yield "cores", f"{cores()} for this process, of {os.cpu_count()}; torch computes on {torch.get_num_threads()} threads"
    yield "memory", gibibytes(memory_bytes(torch.device("cpu")))
    for number in range(torch.cuda.device_count()):
        device = torch.device("cuda", number)
        yield f"cuda:{number}", f"{device_name(device)}, {gibibytes(memory_bytes(device))}"
    if not torch.cuda.device_count():
        yield "cuda", f"no device; torch was built {'for CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'}"


def _kernels() -> Facts:
    """Yield what computes a training step's attention here, and why the others do not."""
    import torch

    from benchmark.contract import Attention
    from benchmark.networks.attention.choice import KERNELS, Circumstances, choose, describe, refusal, to_be_timed

    device = "cuda" if torch.cuda.is_available() else "cpu"
    for attention in (Attention(), Attention(window=3), Attention(window=7, border="shifted")):
        for dtype in (torch.float32, torch.bfloat16):
            given = Circumstances(device, dtype, trains=True)
            taken = choose("auto", attention, SIDE, given)
            why = {name: refusal(name, attention, SIDE, given) for name in KERNELS[1:] if name != taken}
            refused = "; ".join(f"not {name}: {reason}" for name, reason in why.items() if reason)
            if rivals := to_be_timed("auto", attention, SIDE, given):
                taken = f"{' or '.join(rivals)}, the faster one by the clock when a run starts; masked with --deterministic"
            slower = [name for name, reason in why.items() if not reason and name not in rivals]
            also = f"; slower by measurement: {', '.join(slower)}" if slower else ""
            yield f"{describe(attention, SIDE)}, {given.name}", f"{taken}{also}{'; ' + refused if refused else ''}"


def _places(store: str | None) -> Facts:
    from benchmark.recording import tracking
    from benchmark.recording.said import scrubbed

    where = home()
    yield "home", f"{where}{' (BENCH_HOME)' if os.environ.get('BENCH_HOME') else ''}, {_access(where)}"
    yield "disk", f"{gibibytes(shutil.disk_usage(existing(where)).free)} free"
    records = where / "leaderboard" / "records"
    yield "records", f"{len(list(records.rglob('[!.]*.json')))} in {records}"
    yield "packed images", ", ".join(sorted(path.parent.name for path in (where / "packed").glob("*/manifest.json"))) or "none"
    address = store or tracking.default_store(where)
    yield "tracking store", f"{scrubbed(address)}, {_reached(address)}"


def _access(folder: Path) -> str:
    if not folder.is_dir():
        return "not there yet"
    return "writable" if os.access(folder, os.W_OK) else "read-only"


def _reached(address: str) -> str:
    """Say whether a store can be reached, without its libraries."""
    if address.startswith("sqlite:///"):
        return "there" if Path(address.removeprefix("sqlite:///")).exists() else "not there yet: the first run makes it"
    try:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https"):
            return "not tried"
        socket.create_connection((parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)), timeout=SECONDS).close()
    except (OSError, ValueError) as problem:
        return f"not reached: {problem}"
    return "reached"


def _runs() -> Facts:
    """Yield what of the runs wants attention: held, held by nobody alive, damaged, with leftovers."""
    from benchmark.running import description, leftovers

    folders = sorted(path.parent for path in (home() / "runs").glob(f"*/{description.FILE}"))
    yield "run folders", str(len(folders))
    for folder in folders:
        try:
            description.read(folder)
        except BenchError as problem:
            yield folder.name, str(problem)
        if holder := _holder(folder):
            yield folder.name, holder
        if left := leftovers.found(folder):
            yield (
                folder.name,
                f"{len(left)} leftovers of a killed process, as {left[0].name}: the next that works on the run removes them",
            )


def _holder(folder: Path) -> str | None:
    names = sorted(path for path in (folder / "lease").glob("[0-9]*.json"))
    try:
        held = json.loads(names[-1].read_text()) if names else {}
    except (OSError, ValueError, RecursionError):
        return f"its lease {names[-1].name} is damaged: it is taken over after a minute without a sign of life"
    if not isinstance(held, dict) or not held or held.get("released"):
        return None
    age = time.time() - names[-1].stat().st_mtime
    who = f"process {held.get('pid')} on {held.get('name')}"
    return (
        f"held by {who}" if age < STALE else f"a stale lease of {who}, {age / 60:.0f} minutes old: the next that works on the run takes it"
    )


def _entries(search: tuple[Path, ...]) -> Facts:
    from benchmark.declaring.entries import fault

    for axis in registry.FOLDERS:
        for name, file in registry.entries(axis, search).items():
            if why := fault(file):
                yield f"{axis} {name}", why
