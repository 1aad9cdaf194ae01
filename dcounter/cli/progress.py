"""
Shows on a terminal how a long command goes.
"""

import sys
from typing import Any, Final, Self

_TROUBLE_CHARACTERS: Final = 60


class Bar:
    """
    A progress bar with rate and time left, on standard error if that is a terminal.

    :param size: of the whole (bytes); `None` if it is not known.
    :param done: what became of the items that it counts.
    """

    def __init__(self, size: int | None, *, enabled: bool, done: str = "stored") -> None:
        self._progress: Any = None
        self._task: Any = None
        self._read_bytes = 0
        if enabled and sys.stderr.isatty():
            self._begin(size, done)

    def _begin(self, size: int | None, done: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            BarColumn(bar_width=30, complete_style="cyan", finished_style="cyan", pulse_style="cyan"),
            TaskProgressColumn(),
            TextColumn(f"{{task.fields[stored]:,}} {done}", style="bold"),
            TextColumn("{task.fields[rate]:,.0f}/s"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            TextColumn("{task.fields[remark]}", style="yellow"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task("", total=size, stored=0, rate=0.0, remark="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def advance(self, read_bytes: int, stored: int, refused: int) -> None:
        """
        So much is done.
        """
        if self._progress is None:
            return
        # Pieces are done in any order.
        self._read_bytes = max(self._read_bytes, read_bytes)
        elapsed = self._progress.tasks[0].elapsed or 0
        self._progress.update(
            self._task,
            completed=self._read_bytes,
            stored=stored,
            rate=stored / elapsed if elapsed else 0.0,
            remark=f"{refused:,} refused" if refused else "",
        )

    def trouble(self, why: str) -> None:
        """
        Something must be tried again.
        """
        if self._progress is not None:
            self._progress.update(self._task, remark=f"again: {why[:_TROUBLE_CHARACTERS]}")

    def close(self) -> None:
        """
        Take it down.
        """
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class Spinner:
    """
    Says on a terminal what is going on, where it is not known how long that takes.
    """

    def __init__(self, *, enabled: bool) -> None:
        self._status: Any = None
        if enabled and sys.stderr.isatty():
            from rich.console import Console

            self._status = Console(stderr=True).status("")

    def __enter__(self) -> Self:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._status is not None:
            self._status.stop()

    def say(self, text: str) -> None:
        """
        Something begins.

        :param text: fit for a terminal, without marks of rich.
        """
        if self._status is not None:
            self._status.update(text)
