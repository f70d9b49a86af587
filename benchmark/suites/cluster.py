"""The rows of a sweep as tasks of a Ray cluster: each on a node with free CPUs and GPUs, on another one where that is lost."""

import contextlib
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from benchmark.declaring.row import Row
from benchmark.errors import BenchError, UsageError
from benchmark.files import PROJECT, install, is_checkout, write_text
from benchmark.suites.engine import Ended, Job, Site
from benchmark.suites.local import check_jobs
from benchmark.suites.store import Store
from benchmark.suites.worker import Done, Identity, Made, Order, identity

ANSWER_SECONDS = 5.0  # for the head of a cluster, to a connection
PROBE_SECONDS = 90.0  # for Ray there to say that it lives; this includes the import of ray
LOOK_SECONDS = 10.0  # between looks at the metrics of a row whose folder lies elsewhere
# Read when ray starts. Nothing is reported to anyone; a cluster that does not answer is given up after seconds.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_DEDUP_LOGS": "0", "RAY_worker_niceness": "0"}


class Cluster:
    """A Ray cluster: `address` HOST:PORT, or the one on this machine, or one begun here for the sweep.

    cpus, gpus: of each row; gpus None is one where the cluster has any. retries: how often a row may lose its node.
    store: a URL for the runs, where the nodes share no directory.
    """

    def __init__(
        self, address: str | None = None, *, cpus: int = 1, gpus: int | None = None, retries: int = 3, store: str | None = None
    ) -> None:
        if cpus < 1 or (gpus is not None and gpus < 0) or retries < 0:
            raise UsageError(f"`cpus={cpus}` must be at least 1, `gpus={gpus}` and `retries={retries}` at least 0.")
        self._address, self._cpus, self._gpus, self.retries, self._store = address, cpus, gpus, retries, store
        self._beacon: Path | None = None
        self._silence = contextlib.ExitStack()

    def open(self, site: Site, jobs: int | None) -> int:
        """Connect; return how many rows the nodes can take at a time."""
        check_jobs(jobs)
        self.site, self.store = site, Store(self._store) if self._store else None
        if self.store:
            self.store.check()
        self.ray = _connect(self._address, PROJECT if is_checkout() else site.home)
        self._silence.enter_context(contextlib.redirect_stdout(io.StringIO()))  # ray writes there when a node dies
        try:
            room = self._room(site.device)
            self._identity: Identity = identity(site.search)
            self._light()
            self._task = _task(self.ray).options(num_cpus=self._cpus, num_gpus=self._gpus)
        except BaseException:
            self.close()
            raise
        return jobs or room

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Hand the row over."""
        site = self.site
        order = Order(
            row=row,
            run=run,
            suite=site.suite,
            device=site.device,
            threads=self._cpus,
            checkpoint_seconds=site.checkpoint_seconds,
            force=site.force,
            identity=self._identity,
            folders=tuple(map(str, site.search[1:])),
            home=None if self.store else str(site.home),
            beacon=str(self._beacon or ""),
            store=self._store,
        )
        return _Row(self, order)

    def submit(self, order: Order) -> Any:
        """Queue an order; return ray's handle of it."""
        return self._task.remote(order.to_json())

    def close(self) -> None:
        """Leave the cluster; one that was begun here ends."""
        self._silence.close()
        self.ray.shutdown()
        if self._beacon:
            self._beacon.unlink(missing_ok=True)

    def _light(self) -> None:
        """Put a file where every node must see it."""
        if not self.store:
            self._beacon = self.site.home / "runs" / f".sweep-{uuid.uuid4().hex[:12]}"
            write_text(self._beacon, "seen by every node of a sweep\n")

    def _room(self, device: str) -> int:
        """Return how many rows fit on the nodes; settle how many GPUs a row has."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if self._gpus is None:
            self._gpus = int(device in ("auto", "cuda") and any(node.get("GPU") for node in nodes))
        fits = [int(min(node.get("CPU", 0) // self._cpus, node.get("GPU", 0) // self._gpus if self._gpus else 1e9)) for node in nodes]
        if not any(fits):
            there = ", ".join(f"{node.get('CPU', 0):.0f} CPUs and {node.get('GPU', 0):.0f} GPUs" for node in nodes) or "none"
            raise UsageError(
                f"A row asks for {self._cpus} CPUs and {self._gpus} GPUs, and no node of the Ray cluster has "
                f"them: {there}. Ask for less: `cpus=...`, `gpus=...`."
            )
        return sum(fits)


class _Row:
    """A row on the cluster; where its node is lost it is handed over again, and goes on from its last checkpoint."""

    def __init__(self, cluster: Cluster, order: Order) -> None:
        self._cluster, self._order, self._lost, self._cancelled = cluster, order, 0, False
        self._handle = cluster.submit(order)
        self._done: Done | None = None
        self._looked = time.monotonic()

    def poll(self) -> int | None:
        """Return the exit code, None while at work or handed over again."""
        ray = self._cluster.ray
        if self._done is None and ray.wait([self._handle], timeout=0)[0]:
            try:
                self._done = _done(*ray.get(self._handle))
            except ray.exceptions.TaskCancelledError:
                self._done = _failed(130, "stopped")
            except (ray.exceptions.RayTaskError, ray.exceptions.RuntimeEnvSetupError) as problem:
                self._done = _failed(1, str(problem).strip().splitlines()[-1])
            except ray.exceptions.RayError as problem:
                self._again(str(problem).strip().partition(". ")[0].partition("\n")[0])
        if self._done is None:
            self._look()
        return self._done.code if self._done else None

    def signal(self, number: int) -> None:
        """Let the row save a checkpoint (SIGINT), or end it."""
        if self._done is None:
            self._cancelled = True
            with contextlib.suppress(self._cluster.ray.exceptions.RayError):
                self._cluster.ray.cancel(self._handle, force=number != signal.SIGINT)

    def ended(self) -> Ended:
        """Return what the row leaves, after bringing its record here."""
        from benchmark.recording import errors, record

        done, site = self._done or _failed(1, "not ended"), self._cluster.site
        if done.made is None:
            return Ended(None, None, done.said + (f"(on the node {done.node})\n" if done.node else ""))
        try:
            if self._cluster.store:
                self._cluster.store.download(self._order.run, site.home / "runs" / self._order.run)
            path = site.records / done.made.path
            if not path.exists() or path.read_text() != done.made.text:
                write_text(path, done.made.text)
            errors.keep(site.home / "runs" / self._order.run, record.read(path), path)
        except (BenchError, OSError) as problem:
            return Ended(None, None, done.said, f"the row is finished, but its results did not come back from {done.node}: {problem}")
        return Ended(str(path), done.made.psnr_gap, done.said)

    def _again(self, why: str) -> None:
        self._lost += 1
        if self._cancelled or self._lost > self._cluster.retries:
            self._done = _failed(1, f"The row was lost with its node {self._lost} times, the last time so: {why}")
            return
        self._cluster.site.note(
            f"The node of run {self._order.run} was lost ({why}). The row goes on from its last "
            f"checkpoint on another one, retry {self._lost} of {self._cluster.retries}."
        )
        self._order = self._order._replace(force=False)
        self._handle = self._cluster.submit(self._order)

    def _look(self) -> None:
        """Bring the metrics here, where the folder of the run lies elsewhere, so that the sweep can show them."""
        store, run = self._cluster.store, self._order.run
        if store and time.monotonic() - self._looked > LOOK_SECONDS:
            self._looked = time.monotonic()
            with contextlib.suppress(BenchError):
                store.fetch(run, "metrics.jsonl", self._cluster.site.home / "runs" / run / "metrics.jsonl")


def _connect(address: str | None, folder: Path) -> Any:
    """Return ray, connected from `folder`; raise BenchError within seconds where there is no such cluster."""
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        raise UsageError(
            f"`address={address!r}`: Ray Client has no part in this. Run the sweep on a node of the cluster, with `address='HOST:PORT'`."
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise BenchError(f"Ray is not installed: {install('cluster')}.") from None
    if address and address not in ("auto", "local"):
        _answers(address)
    try:
        with contextlib.chdir(folder):  # ray has every worker import from the folder where it is called
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as problem:
        said = " ".join(str(problem).split())
        raise BenchError(f"The Ray cluster at {address or 'this machine'} cannot be joined: {said}") from None
    return ray


def _answers(address: str) -> None:
    """Raise BenchError within seconds where no Ray cluster is; ray itself would try for minutes."""
    name, colon, port = address.rpartition(":")
    begin = f"`ray start --head --port {port}` begins one on that machine; `ray status` there says whether it lives."
    if not colon or not port.isdigit():
        raise UsageError(
            f"`address={address!r}` must be HOST:PORT, as `ray start --head` prints it, or 'auto' for the cluster of this machine."
        )
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
    except (OSError, OverflowError) as problem:
        raise BenchError(f"No Ray cluster answers at {address}: {problem}. {begin}") from None
    # in a process, because that can be ended
    probe = [sys.executable, "-P", "-m", "ray.scripts.scripts", "health-check", "--address", address]
    try:
        healthy = subprocess.run(probe, capture_output=True, timeout=PROBE_SECONDS, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        raise BenchError(f"No Ray cluster answers at {address}: something is there, but it is no Ray of this version. {begin}")


def _task(ray: Any) -> Any:
    """Return the task that runs an order. It is sent whole, not by name, so that a node without the package can say so."""

    def row(order: str) -> Any:
        import platform

        try:
            from benchmark.suites.worker import Order, work
        except ImportError as problem:
            node = platform.node()
            return 2, f"The node {node} cannot run rows: {problem}. Install the project there.\n", node, None
        return tuple(work(Order.from_json(order)))

    return ray.remote(max_calls=1, max_retries=0)(row)  # a process of its own for every row; retries are ours


def _done(code: int, said: str, node: str, made: tuple[str, str, float] | None) -> Done:
    return Done(code, said, node, made and Made(*made))


def _failed(code: int, why: str) -> Done:
    return Done(code, f"{why}\n", "", None)
