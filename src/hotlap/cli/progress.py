"""Progress of runs and downloads: bars in a terminal, plain lines elsewhere, nothing when quiet."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from hotlap.cli.output import stderr

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.progress import Progress, TaskID

    from hotlap.recipe import Recipe

_REFRESH_S = 0.25
"""Seconds between updates; rarer than rich's own, because drawing takes time from the training that is timed."""

_LINE_EVERY_S = 30.0
"""Seconds between the plain lines of a long run."""


class RunProgress:
    """Follows runs; usable as an engine observer and as the progress of a download.

    Args:
        total_runs: how many runs are to come, for the count of seeds.
        quiet: show nothing.
    """

    def __init__(self, total_runs: int, *, quiet: bool = False) -> None:
        self._console = stderr()
        self._quiet = quiet
        self.total_runs = total_runs
        self._begun = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._next = 0.0
        self._table: Any = None
        self._label = ""
        self._accuracy = ""
        self._batch = 0
        self._steps = 0
        self._epochs = 0.0
        self._start = 0.0
        self._remarks: set[str] = set()

    def __enter__(self) -> Self:
        if not self._quiet and self._console.is_terminal:
            self._bar = _make_bar(self._console, lambda: self._table)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    # -- engine observer ----------------------------------------------------------------------------------------

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None:
        """Show a new run."""
        self._begun += 1
        self._batch, self._steps, self._accuracy = images_per_step, total_steps, ""
        self._epochs = recipe.epochs
        self._start = time.monotonic()
        self._next = self._start + (_REFRESH_S if self._bar else _LINE_EVERY_S)
        count = f" ({self._begun}/{self.total_runs})" if self.total_runs > 1 else ""
        self._label = f"{recipe.name} seed {seed}{count}"
        if self._bar is not None:
            self._end_task()
            self._task = self._bar.add_task(self._label, total=total_steps, info="")

    def step(self, done: int, loss: object) -> None:
        """Show progress, now and then."""
        now = time.monotonic()
        if self._quiet or now < self._next:
            return
        rate = done * self._batch / max(now - self._start, 1e-9)
        so_far = f"epoch {self._epochs * done / self._steps:.1f} of {self._epochs:g}, {rate:,.0f} images/s"
        if self._bar is not None and self._task is not None:
            self._next = now + _REFRESH_S
            self._bar.update(self._task, completed=done, info=f"{so_far} {self._accuracy}")
        else:
            self._next = now + _LINE_EVERY_S
            left = (self._steps - done) * (now - self._start) / done
            share = f"{100 * done / self._steps:.0f} %"
            text = f"{self._label}: {share}, {so_far}, {left:.0f} s left {self._accuracy}".rstrip()
            self._console.print(text, markup=False, soft_wrap=True)

    def remark(self, text: str) -> None:
        """Show a remark, once."""
        if text not in self._remarks:
            self._remarks.add(text)
            self.say(text)

    def accuracy(self, epochs: float, accuracy: float) -> None:
        """Show an accuracy."""
        after = f"{epochs:.3g}"
        self._accuracy = f"{100 * accuracy:.2f} % after {after} {'epoch' if after == '1' else 'epochs'}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, info=self._accuracy)

    # -- download -----------------------------------------------------------------------------------------------

    def start(self, label: str, total_bytes: int | None) -> None:
        """Show a new download."""
        if self._bar is not None:
            self._end_task()
            self._task = self._bar.add_task(label, total=total_bytes, info="")
        elif not self._quiet:
            self._console.print(label, markup=False, soft_wrap=True)

    def advance(self, n: int) -> None:
        """Add bytes to the download."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task, n)

    def done(self) -> None:
        """End the download."""
        self._end_task()

    # -- remarks ------------------------------------------------------------------------------------------------

    def table(self, make: Callable[[], Any]) -> None:
        """Keep a table above the bars, in a terminal; ``make`` is called only there."""
        if self._bar is not None:
            self._table = make()

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if not self._quiet:
            (self._bar.console if self._bar is not None else self._console).print(text, markup=False, soft_wrap=True)

    def _end_task(self) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


def _make_bar(console: Console, table: Callable[[], Any]) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    class BarBelowTable(Progress):
        """A progress whose live area also holds the table of the moment."""

        def get_renderables(self) -> Iterable[RenderableType]:
            if (above := table()) is not None:
                yield above
            yield from super().get_renderables()

    return BarBelowTable(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[info]}", markup=False),
        console=console,
        transient=True,
        refresh_per_second=1 / _REFRESH_S,
    )
