"""What a person sees of a sweep: a live table on a terminal, one line per ended row elsewhere."""

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from benchmark.recording.said import duration, visible

if TYPE_CHECKING:
    from benchmark.suites.task import Task

COLOURS = {
    "running": "cyan",
    "finished": "green",
    "already finished": "dim",
    "older code": "yellow",
    "failed": "bold red",
    "waiting": "dim",
    "submitted": "cyan",
}
ENDED = ("finished", "already finished", "older code", "failed")


class View:
    """The tasks of a sweep, shown while they change."""

    def __init__(self, tasks: Sequence["Task"], console: Console, words: Callable[[str], str] = str) -> None:
        self._tasks, self._console, self._words, self._began = tasks, console, words, time.time()
        self._live = (
            Live(
                console=console,
                get_renderable=self._table,
                refresh_per_second=4,
                transient=False,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> "View":
        skipped = sum(task.status == "already finished" for task in self._tasks)
        if self._live:
            self._live.start()
        elif skipped:
            self.note(f"{skipped} of {len(self._tasks)} rows are finished already")
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()
        if kind is None and (failed := sum(task.status == "failed" for task in self._tasks)):
            self.note(f"{failed} of {len(self._tasks)} rows failed. The same command tries them again.")

    def note(self, text: str) -> None:
        """Say one thing, above the table."""
        self._console.print(visible(self._words(text)), markup=False, highlight=False, soft_wrap=True)

    def plan(self) -> None:
        """Say which rows are finished and which a sweep would run."""
        for task in self._tasks:
            self.note(f"{task.status:16}  {task.id}  {task.row.title}")

    def ended(self, task: "Task") -> None:
        """Report a row that has ended; a failed one with its last words."""
        done = sum(other.status in ENDED for other in self._tasks)
        left = eta(self._tasks, time.time() - self._began)
        count = f"[{done}/{len(self._tasks)}]"
        if task.status == "failed":
            said = "".join(f"\n    {line}" for line in task.problem.splitlines())
            self.note(f"{count} failed after {duration(task.seconds)}: {task.row.title}{said}")
        elif not self._live:
            rest = f", {duration(left)} left" if left else ""
            self.note(f"{count} finished in {duration(task.seconds)}, gap {task.psnr_gap:.3f} dB: {task.row.title}{rest}")

    def stopped(self) -> None:
        """Say what a Ctrl-C leaves behind."""
        count = {status: sum(task.status == status for task in self._tasks) for status in COLOURS}
        failed = f", {count['failed']} failed" if count["failed"] else ""
        done = count["finished"] + count["already finished"]
        self.note(
            f"Stopped: {done} of {len(self._tasks)} rows are finished{failed}, "
            f"{count['running']} were in progress, {count['waiting']} had not begun. The same command goes on from there."
        )

    def _table(self) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("row", "state"):
            table.add_column(name, no_wrap=True)
        for name in ("loss", "gap, dB"):
            table.add_column(name, justify="right", no_wrap=True)
        shown = self._visible(self._console.height - 5)
        for task in shown:
            gap = f"{task.psnr_gap:.3f}" if task.psnr_gap is not None else ""
            loss = f"{task.loss:.4f}" if task.loss is not None and task.status == "running" else ""
            table.add_row(escape(visible(task.row.title)), Text(state(task), COLOURS[task.status]), loss, gap)
        hidden = len(self._tasks) - len(shown)
        return Group(table, *([Text(f"and {hidden} more rows", "dim")] if hidden else []), self._overall())

    def _visible(self, room: int) -> list["Task"]:
        """Return the rows that fit, in the order of the suite: those at work first, then failed, next and done ones."""
        urgency = ("running", "failed", "older code", "waiting", "finished", "already finished")
        chosen = sorted(range(len(self._tasks)), key=lambda i: (urgency.index(self._tasks[i].status), i))[: max(1, room)]
        return [self._tasks[i] for i in sorted(chosen)]

    def _overall(self) -> RenderableType:
        done, left = sum(task.status in ENDED for task in self._tasks), eta(self._tasks, time.time() - self._began)
        grid = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=len(self._tasks), completed=sum(map(fraction, self._tasks)), width=40)
        grid.add_row(f"{done}/{len(self._tasks)}", bar, f"ETA {duration(left)}" if left else "")
        return grid


def state(task: "Task") -> str:
    """Return a row's state in a word and a number."""
    if task.status == "running":
        if not task.step:
            return "starting"
        return f"running {100 * task.step / task.steps:.0f}%" if task.step < task.steps else "scoring"
    if task.status == "finished":
        return f"done {duration(task.seconds)}"
    return "done before" if task.status == "already finished" else task.status


def fraction(task: "Task") -> float:
    """Return how much of a row is behind us, 0 to 1."""
    return 1.0 if task.status in ENDED else min(task.step / task.steps, 1.0)


def eta(tasks: Sequence["Task"], elapsed: float) -> float | None:
    """Return the seconds left at the rate of this sweep so far, None while there is no rate; rows count alike."""
    taken = sum(fraction(task) - task.first / task.steps for task in tasks if task.status in ("running", "finished"))
    left = sum(1.0 - fraction(task) for task in tasks)
    return elapsed * left / taken if taken > 0 and left > 0 else None
