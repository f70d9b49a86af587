"""What a person sees while waiting: bars on stderr with rate, loss and ETA; nothing where stderr is no terminal."""

from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from benchmark.recording.said import visible

Update = Callable[..., None]


class Display:
    """Progress bars and one-line notes on stderr; notes are printed everywhere, in `words`, bars on a terminal only."""

    def __init__(self, *, silent: bool = False, words: Callable[[str], str] = str) -> None:
        self._words = words
        self.console = Console(stderr=True, highlight=False, quiet=silent)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.console,
            disable=silent or not self.console.is_terminal,
        )

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Say one thing that is not the result."""
        self.console.print(visible(self._words(text)), markup=False, soft_wrap=True)

    def bar(self, what: str) -> Update:
        """Return `update(done, total, detail='')` of a new bar, which appears at its first call."""
        task: list[TaskID] = []

        def update(done: int, total: int, detail: str = "") -> None:
            if not task:
                task.append(self._bars.add_task(escape(visible(what)), total=total, detail=""))
            self._bars.update(task[0], completed=done, total=total, detail=escape(visible(detail)))

        return update
