"""The rows of a sweep as one Slurm job array, one row a task, through submitit."""

import logging
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.declaring.row import Row
from benchmark.errors import BenchError, UsageError
from benchmark.files import importing, install
from benchmark.suites.child import COMMAND, Process, ended, environment, words
from benchmark.suites.engine import Ended, Job, Site
from benchmark.suites.local import check_jobs
from benchmark.suites.sbatch import parsed

STOPPED = 130  # the exit code of a row that was asked to stop
DEAF = ("sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh")
ASK_SECONDS = 5.0  # between questions to the queue, for each row
STOP_SECONDS = 60.0  # for a checkpoint, once Slurm wants the node back; it warns submitit 90 s before
GONE_SECONDS = 90.0  # between the end of a job and the sight of its result on a shared disk
REQUEUES = 1000  # of a row whose time was up: the paper's rows need more than one sitting in most queues
NOTE = "With `options=['cluster=local']` the same array runs as processes of this machine."


class Task:
    """What a task of the array does: run the row; where Slurm takes the node away, save a checkpoint and go on later.

    Slurm signals every process of a task alike: the row must not die of the warning that is meant for submitit. On
    SIGTERM it saves a checkpoint and ends; then only `cancelled`, a file, tells an end that is final. `words` begin the
    row, `again` lets it go on.
    """

    def __init__(self, words: Sequence[str], again: Sequence[str], home: str, cancelled: str) -> None:
        self.words, self.again, self.home, self.cancelled = list(words), list(again), home, cancelled
        self._process: Process | None = None

    def __call__(self) -> tuple[int, str, str]:
        """Run the row; return its exit code, stdout and stderr."""
        self._process = Process([*DEAF, *self.words], environment(self.home))
        try:
            while (code := self._process.poll()) is None:
                time.sleep(0.2)
            deadline = time.monotonic() + STOP_SECONDS
            while code == STOPPED and not Path(self.cancelled).exists() and time.monotonic() < deadline:
                time.sleep(0.2)  # Slurm ends the task, or has it queued again: no result may say that it is over
        except BaseException:  # this task ends before its row: the row saves a checkpoint on its own
            self._process.signal(signal.SIGINT)
            raise
        out, errors = self._process.output()
        sys.stdout.write(out)
        sys.stderr.write(errors)
        return code, out, errors

    def checkpoint(self) -> Any:
        """Answer submitit when the time is up or the node is wanted: what shall be queued again."""
        from submitit.helpers import DelayedSubmission

        if self._process:
            self._process.signal(signal.SIGINT)
            deadline = time.monotonic() + STOP_SECONDS
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            self._process.signal(signal.SIGKILL)
        return DelayedSubmission(Task(self.again, self.again, self.home, self.cancelled))


class Slurm:
    """A Slurm queue. options: 'key=value' of sbatch; cpus, gpus: of each row."""

    def __init__(self, options: Sequence[str] = (), *, cpus: int = 1, gpus: int = 0) -> None:
        if cpus < 1 or gpus < 0:
            raise UsageError(f"`cpus={cpus}` must be at least 1 and `gpus={gpus}` at least 0.")
        self._options, self._cpus, self._gpus = parsed(options), cpus, gpus
        self.kind = self._options.pop("cluster", "slurm")
        if self.kind not in ("slurm", "local"):
            raise UsageError(f"`options={[f'cluster={self.kind}']}`: there is slurm and local.")
        self._waiting: list[_Row] = []

    def open(self, site: Site, jobs: int | None) -> int:
        """Look for Slurm; return that every row may be handed over: the queue decides how many run."""
        check_jobs(jobs)
        if self.kind == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise BenchError(
                "There is no sbatch on the PATH: this machine submits to no Slurm cluster. Run the same command "
                f"on a login node, or look at the job with `dry_run=True`. {NOTE}"
            )
        self.site = site
        self._folder = site.home / "runs" / "slurm"
        self._executor = self._made(jobs)
        return sys.maxsize

    def launch(self, row: Row, run: str, slot: int) -> Job:
        """Add the row to the array, which is submitted when its first row is asked after."""
        cancelled = self._folder / f"{uuid.uuid4().hex}.cancelled"
        sites = self.site, replace(self.site, force=False)
        begin, again = ([*COMMAND, *words(row, site, threads=self._cpus, wait=True)] for site in sites)
        job = _Row(self, Task(begin, again, str(self.site.home), str(cancelled)))
        self._waiting.append(job)
        return job

    def submit(self) -> None:
        """Submit what waits as one array; raise BenchError with Slurm's own words where it is refused."""
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        try:
            with self._executor.batch():
                handles = [self._executor.submit(row.task) for row in rows]
        except (subprocess.CalledProcessError, OSError, RuntimeError) as problem:
            raise BenchError(
                f"The job array was not submitted: {_reason(problem)}. The same with `dry_run=True` shows what was asked for."
            ) from None
        for row, handle in zip(rows, handles, strict=True):
            row.handle = handle
        first = handles[0].job_id.partition("_")[0]
        self.site.note(f"Submitted {len(rows)} rows as job {first}; the logs are in {self._folder}.")

    def close(self) -> None:
        """What is in the queue stays there."""

    def script(self, home: Path, rows: int, jobs: int | None) -> str:
        """Return the batch script as sbatch would get it, on a machine with or without Slurm."""
        _submitit()
        from submitit.slurm.slurm import _make_sbatch_string

        folder = home / "runs" / "slurm"
        command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(str(folder))}"
        try:
            return _make_sbatch_string(command=command, folder=folder, map_count=rows, **self._parameters(jobs))
        except TypeError as problem:
            raise UsageError(f"`options=...`: {problem}.") from None

    def _made(self, jobs: int | None) -> Any:
        submitit = _submitit()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            made: dict[str, Any] = {f"{self.kind}_max_num_timeout": REQUEUES}
            if self.kind == "local":
                made["local_python"] = shlex.join(["env", *(f"{name}={value}" for name, value in importing().items()), sys.executable])
            executor = submitit.AutoExecutor(folder=self._folder, cluster=self.kind, **made)
            if self.kind == "local":
                executor.update_parameters(timeout_min=self._options["time"], gpus_per_node=self._gpus)
            else:
                executor.update_parameters(**{f"slurm_{key}": value for key, value in self._parameters(jobs).items()})
        except (ValueError, NameError, TypeError, RuntimeError) as problem:
            raise UsageError(f"`options=...`: {_reason(problem)}.") from None
        return executor

    def _parameters(self, jobs: int | None) -> dict[str, Any]:
        """Return what sbatch is asked for; keys that submitit does not know go to sbatch as they are."""
        _submitit()
        from submitit.slurm.slurm import SlurmExecutor

        known = SlurmExecutor._valid_parameters()
        parameters: dict[str, Any] = {"job_name": "bench", "nodes": 1, "cpus_per_task": self._cpus, "array_parallelism": jobs or 256}
        parameters |= {"gpus_per_node": self._gpus} if self._gpus else {}
        parameters |= {key: value for key, value in self._options.items() if key in known}
        exports = [f"export {name}={shlex.quote(value)}" for name, value in importing().items()]
        parameters["setup"] = [*exports, *parameters.get("setup", [])]
        more = {key.replace("_", "-"): value for key, value in self._options.items() if key not in known}
        return parameters | ({"additional_parameters": more} if more else {})


class _Row:
    """A row in the queue."""

    def __init__(self, queue: Slurm, task: Task) -> None:
        self.task = task
        self.handle: Any = None  # submitit's job, once the array is submitted
        self._queue, self._cancelled = queue, False
        self._gone_since: float | None = None
        self._result: tuple[int, str, str] | None = None
        self._asked = self._polled = 0.0

    def poll(self) -> int | None:
        """Return the exit code, None while in the queue or at work."""
        self._queue.submit()
        if self._result is None and time.monotonic() - self._polled > 1:  # each look asks a shared disk
            self._polled = time.monotonic()
            if self.handle.paths.result_pickle.exists():
                self._result = self._read()
            elif self._gone():
                self._result = self._missing()
        return self._result[0] if self._result else None

    def signal(self, number: int) -> None:
        """Take the row off the queue; Slurm lets it save a checkpoint."""
        if self.handle is not None and self._result is None and not self._cancelled:
            self._cancelled = True
            with suppress(OSError):
                Path(self.task.cancelled).touch()
            self.handle.cancel(check=False)

    def ended(self) -> Ended:
        """Return what the row leaves."""
        return ended(*self._result) if self._result else Ended(None, None)

    def _read(self) -> tuple[int, str, str]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return tuple(self.handle.result())
        except (FailedJobError, UncompletedJobError):
            return self._missing()

    def _missing(self) -> tuple[int, str, str]:
        """Return what is left of a task without a result: its log."""
        log = self.handle.paths.stderr
        said = log.read_text(errors="replace") if log.exists() else "It wrote nothing.\n"
        return 130 if self._cancelled else 1, "", f"{said}The log: {log}\n"

    def _gone(self) -> bool:
        """Tell whether the task left the queue without a result. (submitit asks sacct, which not every cluster has.)"""
        if time.monotonic() - self._asked < ASK_SECONDS:
            return False
        self._asked = time.monotonic()
        if self._queue.kind == "local":
            return self.handle.done()
        with suppress(OSError, subprocess.SubprocessError):
            asked = subprocess.run(
                ["squeue", "--noheader", "--jobs", self.handle.job_id], capture_output=True, text=True, timeout=30, check=False
            )
            here = bool(asked.stdout.strip()) or (asked.returncode != 0 and "Invalid job id" not in asked.stderr)
            self._gone_since = None if here else self._gone_since or time.monotonic()
        return self._gone_since is not None and (self._cancelled or time.monotonic() - self._gone_since > GONE_SECONDS)


def _submitit() -> Any:
    try:
        import submitit
    except ImportError:
        raise BenchError(f"submitit is not installed: {install('cluster')}.") from None
    logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of every cluster without accounting
    return submitit


def _reason(problem: BaseException) -> str:
    said = getattr(problem, "stderr", None) or str(problem)
    lines = (said.decode(errors="replace") if isinstance(said, bytes) else said).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(problem).__name__
