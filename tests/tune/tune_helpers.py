"""Sessions that compute accuracies from a formula, so that whole searches take no time."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Iterator

from factories import make_environment, make_run
from hotlap.bench.executors import Job
from hotlap.bench.executors.pull import JobSource, naming
from hotlap.bench.session import Session
from hotlap.recipe import Recipe, part
from hotlap.result import Run
from hotlap.store import Store
from tiny import tiny

SMALL = part("synthetic", train=120, test=20, size=12, channels=1, classes=4, seed=0, noise=0.2)

Formula = Callable[[Recipe], float | None]


def small(**changes: object) -> Recipe:
    return tiny(data=SMALL, epochs=1.0, **changes)


def noise(recipe: Recipe, seed: int, deviation: float) -> float:
    """Return the same for a seed and nearly equal recipes, as common random numbers do."""
    return random.Random(zlib.crc32(f"{seed} {recipe.digest}".encode())).gauss(0, deviation)


class FormulaSession(Session):
    """Trains nothing: accuracy is a formula of the recipe, plus noise that follows from recipe and seed."""

    def __init__(self, formula: Formula, *, deviation: float = 0.0, store: Store | None = None) -> None:
        super().__init__(store=store, threads=1)
        self.formula, self.deviation = formula, deviation
        self.trained: list[Job] = []

    def train(self, recipe: Recipe, seed: int) -> Run:
        self.trained.append(Job(recipe, seed))
        accuracy = self.formula(recipe)
        if accuracy is not None:
            accuracy += noise(recipe, seed, self.deviation)
        return make_run(
            recipe=recipe,
            seed=seed,
            accuracy=accuracy,
            data_digest=self.fetch(recipe),
            backend=self.backend_of(recipe),
            environment=make_environment(),
        )


class SeveralWorkers:
    """An executor that keeps so many runs in flight, and finishes them in another order than it began them."""

    def __init__(self, session: FormulaSession, workers: int) -> None:
        self.session, self.workers = session, workers
        self.most_in_flight = 0

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Run]:
        source = JobSource(jobs)
        in_flight: list[Job] = []
        while True:
            while len(in_flight) < self.workers and (job := source.draw(len(in_flight))):
                in_flight.append(job)
            self.most_in_flight = max(self.most_in_flight, len(in_flight))
            if not in_flight:
                return
            job = in_flight.pop(len(in_flight) // 2)
            with naming(job):
                run = self.session.train(job.recipe, job.seed)
            yield run
            source.finished()
