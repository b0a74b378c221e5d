"""Training what a search hands out, and going on without what cannot be trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from hotlap.errors import InputError
from hotlap.result import Run

if TYPE_CHECKING:
    from hotlap.bench.executors import Executor, Job
    from hotlap.bench.session import Session


class Driven(Protocol):
    """Hands out runs one by one, takes them in, and may do without a recipe that cannot be trained."""

    def jobs(self) -> Iterator[Job | None]:
        """Yield the next run to start; see ``Executor``. May be asked again, and goes on where it is."""
        ...

    def take(self, run: Run) -> None:
        """Take in a run that was handed out."""
        ...

    def refuse(self, error: InputError) -> bool:
        """Go on without the recipe that ``error`` is about; runs in flight are lost. False where that is no way on."""
        ...


def drive(driven: Driven, session: Session, executor: Executor | None) -> None:
    """Train until nothing more is handed out.

    Raises:
        HotlapError: a recipe cannot be trained, and the search has no way on without it; or workers are lost.
    """
    while True:
        try:
            for run in session.run_all(driven.jobs(), executor):
                driven.take(run)
        except InputError as error:
            if not driven.refuse(error):
                raise
        else:
            return
