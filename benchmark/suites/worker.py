"""What a node does with a row that was handed to it: refuse what cannot be right there, run it, hand back what came out."""

import _thread
import hashlib
import io
import json
import platform
import sys
import tempfile
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmark import __version__
from benchmark.declaring import entries, registry
from benchmark.declaring.row import Row
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT, home

if TYPE_CHECKING:
    from benchmark.running.place import Place

STOPPED = 130  # the exit code of a row that was asked to stop
PACKAGES = ("torch", "numpy", "safetensors", "gin-config")  # the numbers come from these


class Identity(NamedTuple):
    """What must be the same on two machines for their records to be comparable."""

    versions: dict[str, str]
    files: dict[str, str]  # sha256 of the code and of the entries; a name relative to the project, or a whole path


class Order(NamedTuple):
    """A row for a node, how it is run, and what the head wants to be sure of."""

    row: Row
    run: str  # its id
    suite: str
    device: str
    threads: int
    checkpoint_seconds: float
    force: bool  # begin it anew
    identity: Identity
    folders: tuple[str, ...]  # of the registry, beside the project's own
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
        typed = {"row": Row(**fields["row"]), "identity": Identity(**fields["identity"]), "folders": tuple(fields["folders"])}
        return cls(**fields | typed)


class Made(NamedTuple):
    """A record that a node made: its place below a folder of records, its text, and the gap it holds."""

    path: str
    text: str
    psnr_gap: float


class Done(NamedTuple):
    """What became of an order; `said` is what it wrote to stderr, and why it failed."""

    code: int
    said: str
    node: str
    made: Made | None


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
    said, made, code = io.StringIO(), None, 0
    with tempfile.TemporaryDirectory() as records, redirect_stderr(said):
        try:
            search = registry.roots([Path(folder) for folder in order.folders])
            _refuse(order, search)
            made = _run(order, search, Path(records))
        except KeyboardInterrupt:
            code = STOPPED
            print("Stopped at a checkpoint.", file=sys.stderr)
        except BenchError as problem:
            code = problem.exit_code
            print(problem, file=sys.stderr)
        except OSError as problem:
            code = 1
            print(f"{problem.filename or 'a file'}: {problem.strerror or problem}", file=sys.stderr)
    return Done(code, said.getvalue(), platform.node(), made)


def _run(order: Order, search: tuple[Path, ...], records: Path) -> Made:
    """Run the row, held and kept up to date in the store where there is one."""
    from benchmark.declaring.spec import AXES, resolve
    from benchmark.recording import record
    from benchmark.run import run
    from benchmark.running.progress import Display
    from benchmark.suites.store import Store, stored

    place, row = _place(order, records), order.row
    spec = resolve({axis: getattr(row, axis) for axis in AXES}, subset=row.subset, seed=row.seed, search=search)
    upkeep: AbstractContextManager[None] = nullcontext()
    with Display() as display:
        if order.store:
            upkeep = stored(
                Store(order.store),
                order.run,
                place.folder(spec),
                force=order.force,
                note=display.note,
                interrupt=_thread.interrupt_main,
            )
        with upkeep:
            result = run(spec, place, display, force=order.force)
    path = record.path_of(records, result.row)
    return Made(str(path.relative_to(records)), path.read_text(), result.psnr_gap)


def _place(order: Order, records: Path) -> "Place":
    """Return where the row runs on this node: the shared directory, or the node's own."""
    from benchmark.networks.numerics import set_up
    from benchmark.running.environment import choose_device, keep_memory
    from benchmark.running.place import Place, strict_on

    where, device = Path(order.home) if order.home else home(), choose_device(order.device)
    set_up(order.threads, where / "runs" / "compiled", strict=strict_on(device))
    keep_memory()
    return Place(
        home=where,
        records=records,
        device=device,
        deterministic=strict_on(device),
        suite=order.suite,
        checkpoint_seconds=order.checkpoint_seconds,
        wait=True,
    )


def _refuse(order: Order, search: tuple[Path, ...]) -> None:
    """Raise UsageError, naming the node, where this node lacks what the head has."""
    node = f"The node {platform.node()}"
    if how := difference(order.identity):
        raise UsageError(f"{node} {how}, then run the same command again.")
    if order.home and not Path(order.beacon).exists():
        raise UsageError(
            f"{node} does not see the head's directory {order.home} (there is no {order.beacon}). Let BENCH_HOME "
            "name a directory that every node mounts at the same place, or keep the runs under a URL: `benchmark.suites.cluster.Cluster(store='s3://…')`."
        )
    from benchmark.images.manifest import adding

    entry = entries.load(registry.find("dataset", order.row.dataset, search))
    images = (Path(order.home) if order.home else home()) / "packed" / entry.name / "images.npy"
    if not entry.config.embedded and not images.exists():
        raise UsageError(
            f"{node} has no file {images}, the images of '{entry.name}'. Copy the head's packed/{entry.name} "
            f"there, or pack them on the node: {adding(entry.name)}."
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
