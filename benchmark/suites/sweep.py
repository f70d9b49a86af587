"""The rows of a suite, each a `bench run` of its own: finished rows are skipped, a failed row stops no other.

sweep() decides what runs and says what became of it; an engine (engine.py) runs it: local.py, cluster.py, slurm.py.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from rich.console import Console

from benchmark.declaring import registry
from benchmark.declaring.row import Row
from benchmark.declaring.spec import AXES, resolve
from benchmark.errors import BenchError
from benchmark.recording import record
from benchmark.recording.tracking import Replay, default_store, shown
from benchmark.running.signals import stop_now
from benchmark.suites.engine import Engine, Job, Site
from benchmark.suites.local import Local
from benchmark.suites.task import Outcome, Task
from benchmark.suites.view import View

__all__ = ["Outcome", "Task", "default_store", "sweep"]

STOP_SECONDS = 30.0  # for a checkpoint, once a row was asked to stop
MIRROR_SECONDS = 60.0  # for the copies of the last rows
TAIL_LINES = 5


def sweep(
    rows: Sequence[Row],
    *,
    suite: str,
    home: Path,
    records: Path,
    jobs: int | None = None,
    search: tuple[Path, ...] = (registry.STOCK,),
    engine: Engine | None = None,
    device: str = "auto",
    checkpoint_seconds: float = 60.0,
    force: bool = False,
    wait: bool = True,
    store: str | None = None,
    dry_run: bool = False,
    console: Console | None = None,
    words: Callable[[str], str] = str,
) -> list[Outcome]:
    """Run the rows that are not finished, `jobs` at a time, and say what became of each.

    jobs: None leaves it to the engine. engine: None is this machine. wait: False leaves the rows to a queue. store: the
    MLflow store for the finished rows, None for none. words: how a note is said. Raise UsageError before anything starts
    where a row does not resolve; on Ctrl-C stop every row at a checkpoint and raise KeyboardInterrupt.
    """
    console = console or Console(stderr=True, highlight=False)
    tasks = [_task(row, home, records, search, force) for row in rows]
    view = View(tasks, console, words)
    if dry_run:
        view.plan()
        return [task.outcome for task in tasks]
    engine = engine or Local()
    jobs = engine.open(Site(home, records, search, view.note, suite, device, force, checkpoint_seconds), jobs)

    def begin(task: Task) -> Job:
        return engine.launch(task.row, task.id, task.slot)

    if not wait:
        return _leave(tasks, begin, engine)
    mirror = _Mirror(store, view.note)
    with _stoppable(), view, closing(engine):
        try:
            _work(tasks, jobs, begin, view, mirror)
        except BaseException as problem:
            view.note("Stopping: the rows at work save a checkpoint. Another Ctrl-C does not wait for that.")
            _stop([task for task in tasks if task.status == "running"])
            mirror.finish(10.0)
            if isinstance(problem, KeyboardInterrupt):
                view.stopped()
            raise
        mirror.finish(MIRROR_SECONDS)
    return [task.outcome for task in tasks]


def _task(row: Row, home: Path, records: Path, search: tuple[Path, ...], force: bool) -> Task:
    """Resolve a row and look whether its very spec has a record already."""
    names = {axis: getattr(row, axis) for axis in AXES}
    spec = resolve(names, subset=row.subset, seed=row.seed, search=search)
    task = Task(row, spec.id, spec.recipe.config.steps, home / "runs" / spec.id)
    path = record.path_of(records, row)
    with suppress(BenchError):  # a damaged record is for `bench run` to report
        if not force and path.exists() and spec.describes((found := record.read(path)).spec):
            task.status, task.step = "already finished" if spec.same_numbers(found.code) else "older code", task.steps
            task.psnr_gap, task.record = found.psnr_gap, str(path)
    return task


def _work(tasks: Sequence[Task], jobs: int, begin: Callable[[Task], Job], view: View, mirror: "_Mirror") -> None:
    """Keep `jobs` rows at work until none is left."""
    waiting = [task for task in tasks if task.status == "waiting"]
    running: list[Task] = []
    while waiting or running:
        while waiting and len(running) < jobs:
            task = waiting.pop(0)
            task.slot = next(slot for slot in count() if slot not in {other.slot for other in running})
            task.look()
            task.first, task.began, task.status = task.step, time.time(), "running"
            task.job = begin(task)
            running.append(task)
        for task in list(running):
            task.look()
            if (code := task.at_work.poll()) is not None:
                running.remove(task)
                _settle(task, code)
                view.ended(task)
                if task.status == "finished":
                    mirror.add(task.folder)
        time.sleep(0.1)


def _leave(tasks: Sequence[Task], begin: Callable[[Task], Job], engine: Engine) -> list[Outcome]:
    """Hand over the rows that are not finished and look no further."""
    with closing(engine):
        for task in (task for task in tasks if task.status == "waiting"):
            task.job, task.status = begin(task), "submitted"
        for task in tasks:
            if task.job:
                task.job.poll()  # submits it
    return [task.outcome for task in tasks]


def _settle(task: Task, code: int) -> None:
    """Take over what a row that has ended leaves; a row without a record has failed, whatever its exit code."""
    ended = task.at_work.ended()
    task.seconds = time.time() - task.began
    if code == 0 and ended.record and Path(ended.record).exists():
        task.status, task.step, task.record, task.psnr_gap = "finished", task.steps, ended.record, ended.psnr_gap
        return
    lost = ended.why or f"its result cannot be read: it names a record that is not there, {ended.record}"
    said = [line for line in ended.said.splitlines() if line.strip()][-TAIL_LINES:]
    why = f"it ended with exit code {code}" if code else lost
    task.status, task.record, task.psnr_gap, task.problem = "failed", None, None, "\n".join([*said, f"({why})"])


def _stop(running: Sequence[Task]) -> None:
    """Ask rows to stop at a checkpoint, and end those that do not; another Ctrl-C shortens the wait."""
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        deadline = time.monotonic() + seconds
        alive = [task for task in running if task.job and task.job.poll() is None]
        for task in alive:
            task.at_work.signal(number)
        with suppress(KeyboardInterrupt):
            while time.monotonic() < deadline and any(task.at_work.poll() is None for task in alive):
                time.sleep(0.05)
    for task in running:
        if task.job and (code := task.job.poll()) == 0:
            _settle(task, code)


class _Mirror:
    """One process that copies the finished rows into MLflow, begun with the first of them; none without a store."""

    def __init__(self, store: str | None, note: Callable[[str], None]) -> None:
        self._store, self._note = store, note
        self._replay: Replay | None = None

    def add(self, folder: Path) -> None:
        """Hand over a finished run."""
        if not self._store:
            return
        try:
            self._replay = self._replay or Replay(self._store)
            self._replay.add(folder)
        except BenchError as problem:  # MLflow is not installed: said once
            self._note(str(problem))
            self._store = None

    def finish(self, seconds: float) -> None:
        """Wait for the copies, `seconds` at most, and say once what is missing."""
        if self._replay and self._store:
            missed = [outcome for _, outcome in self._replay.finish(seconds) if outcome.startswith("failed: ")]
            if missed:
                self._note(
                    f"The MLflow store {shown(self._store)} lacks {len(missed)} of the runs "
                    f"({missed[0].removeprefix('failed: ')}). `benchmark.recording.tracking.sync(...)` replays them."
                )


@contextmanager
def _stoppable() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C, so that no row is left behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop_now) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
