"""What a node does with a row that was handed to it: refuse what cannot be right there, run it, hand back what came out."""

import _thread
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
from collections.abc import Iterable
from contextlib import (
    AbstractContextManager,
    nullcontext,
    redirect_stderr,
    redirect_stdout,
)
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from benchmark import __version__
from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT

PACKAGES = ("torch", "numpy", "safetensors", "gin-config")  # the numbers come from these


class Identity(NamedTuple):
    """What must be the same on two machines for their records to be comparable."""

    versions: dict[str, str]
    files: dict[str, str]  # sha256 of the code and of the entries; a name relative to the project, or a whole path


class Order(NamedTuple):
    """A row for a node: the flags of `bench run` but --records, and what the head wants to be sure of."""

    row: Row
    run: str  # its id
    flags: tuple[str, ...]
    identity: Identity
    search: tuple[str, ...]  # the registry folders
    home: str | None  # the shared directory; None: the node's own, with the runs in `store`
    beacon: str  # a file that lies in `home`
    store: str | None  # a URL

    def to_json(self) -> str:
        """Return the order as text, for a node that may lack this very class."""
        return json.dumps(self._asdict() | {"row": self.row._asdict(), "identity": self.identity._asdict()})

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Return the order again."""
        fields = json.loads(text)
        lists = {name: tuple(fields[name]) for name in ("flags", "search")}
        return cls(**fields | lists | {"row": Row(**fields["row"]), "identity": Identity(**fields["identity"])})


class Done(NamedTuple):
    """What became of an order; `record` is its place below a folder of records and its text."""

    code: int
    out: str
    errors: str
    node: str
    record: tuple[str, str] | None


def identity(search: Iterable[Path]) -> Identity:
    """Describe this machine's packages, code and entries."""
    own = [registry.STOCK, PROJECT / "benchmark"]
    roots = [*own, *(root for root in search if root not in own)]
    files = {_name(path): _sha256(path) for root in roots for path in sorted(root.rglob("*")) if path.suffix in (".py", ".gin")}
    return Identity(_versions(), files)


def difference(wanted: Identity) -> str | None:
    """Say how this machine differs from the one that describes itself so; None where it does not."""
    mine = _versions()
    for name, theirs in wanted.versions.items():
        if mine[name] != theirs:
            return f"has {name} {mine[name]}, the head has {theirs}. Install the same on both"
    for name, theirs in wanted.files.items():
        path = PROJECT / name
        if not path.is_file():
            return f"has no file {path}, which the head has. Put the same code and registry folders on every node"
        if _sha256(path) != theirs:
            return f"has another {path} than the head. Put the same code and registry folders on every node"
    return None


def work(order: Order) -> Done:
    """Run a row on this node."""
    out, errors, made = io.StringIO(), io.StringIO(), None
    with tempfile.TemporaryDirectory() as records, redirect_stdout(out), redirect_stderr(errors):
        try:
            _refuse(order)
            code = _run(order, Path(records))
        except BenchError as problem:
            print(f"bench: {problem}", file=sys.stderr)
            code = problem.exit_code
        if code == 0:
            path = Path(json.loads(out.getvalue())["record"])
            made = str(path.relative_to(records)), path.read_text()
    return Done(code, out.getvalue(), errors.getvalue(), platform.node(), made)


def _run(order: Order, records: Path) -> int:
    """Run the row as the command line would."""
    from benchmark.cli import main
    from benchmark.commands.place import home
    from benchmark.suites.store import Store, stored

    if order.home:
        os.environ["BENCH_HOME"] = order.home
    upkeep: AbstractContextManager[None] = nullcontext()
    if order.store:
        upkeep = stored(
            Store(order.store),
            order.run,
            home() / "runs" / order.run,
            force="--force" in order.flags,
            note=lambda text: print(text, file=sys.stderr),
            interrupt=_thread.interrupt_main,
        )
    with upkeep:
        return main(["run", *order.row.flags(), *order.flags, "--records", str(records), "--wait"])


def _refuse(order: Order) -> None:
    """Raise UsageError, naming the node, where this node lacks what the head has."""
    from benchmark.commands.place import home

    node = f"The node {platform.node()}"
    if how := difference(order.identity):
        raise UsageError(f"{node} {how}, then run the same command again.")
    if order.home and not Path(order.beacon).exists():
        raise UsageError(
            f"{node} does not see the head's directory {order.home} (there is no {order.beacon}). Let BENCH_HOME "
            "name a directory that every node mounts at the same place, or keep the runs under a URL: --runs s3://…"
        )
    from benchmark.declaring import spec

    entry = spec.load(registry.find("dataset", order.row.dataset, tuple(map(Path, order.search))))
    images = (Path(order.home) if order.home else home()) / "packed" / entry.name / "images.npy"
    if not entry.config.embedded and not images.exists():
        raise UsageError(
            f"{node} has no file {images}, the images of '{entry.name}'. Copy the head's packed/{entry.name} "
            f"there, or pack them on the node: `bench data add {entry.name} --root PATH`."
        )


def _versions() -> dict[str, str]:
    own = {"benchmark": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    return own | {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name).partition("+")[0]  # 2.15.0+cpu and 2.15.0+cu130 are the same code
    except PackageNotFoundError:
        return "none"


def _name(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else str(path)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
