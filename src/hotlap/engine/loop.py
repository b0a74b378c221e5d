"""The training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from hotlap.datasets import ImageData
from hotlap.engine.allocator import give_back_memory, keeping_memory
from hotlap.engine.backends import forget_trainers, make_trainer
from hotlap.engine.checkpoint import Checkpoint, Generators, Stateful
from hotlap.engine.clock import Clock
from hotlap.engine.contention import Contention, is_contended
from hotlap.engine.devices import choosing_kernels, explaining_memory, remark_on_triton, synchroniser
from hotlap.engine.environment import capture
from hotlap.engine.feed import in_memory
from hotlap.engine.loss_watch import LossWatch
from hotlap.engine.precision import remark_on
from hotlap.engine.seeding import isolated
from hotlap.engine.steps import planned_steps
from hotlap.recipe import Recipe
from hotlap.result import Backend, Run, now


class Observer(Protocol):
    """Follows a run; every call is made while the clock runs, so it must return at once."""

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None:
        """Follow a run that is about to train."""
        ...

    def step(self, done: int, loss: Tensor) -> None:
        """Note that ``done`` optimizer steps are done; reading ``loss`` waits for the device."""
        ...

    def remark(self, text: str) -> None:
        """Note something that the user should know of the run."""
        ...

    def accuracy(self, epochs: float, accuracy: float) -> None:
        """Note an accuracy measured on the test set after ``epochs``."""
        ...


@dataclass(frozen=True)
class Silent:
    """An observer that looks away."""

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None: ...  # noqa: D102
    def step(self, done: int, loss: Tensor) -> None: ...  # noqa: D102
    def remark(self, text: str) -> None: ...  # noqa: D102
    def accuracy(self, epochs: float, accuracy: float) -> None: ...  # noqa: D102


@dataclass
class Position:
    """Where a run is: optimizer steps done, and (epochs, accuracy of each seed) wherever it was measured."""

    step: int = 0
    accuracies: list[tuple[float, list[float]]] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """Return both."""
        return {"step": self.step, "accuracies": self.accuracies}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.step, self.accuracies = state["step"], state["accuracies"]


def train_once(recipe: Recipe, load: Callable[[], ImageData], seed: int, **options: Any) -> Run:
    """Train one network from scratch and measure it; see ``train_seeds``, which this is with one seed."""
    return train_seeds(recipe, load, (seed,), **options)[0]


def train_seeds(
    recipe: Recipe,
    load: Callable[[], ImageData],
    seeds: Sequence[int],
    *,
    device: torch.device,
    observer: Observer | None = None,
    clock: Clock | None = None,
    timing_valid: bool = True,
    log_accuracy: bool = False,
    checkpoint: Checkpoint | None = None,
    backend: Backend = "auto",
) -> list[Run]:
    """Train a network from scratch for each seed, all in one program, and measure them.

    Args:
        recipe: what to do.
        load: returns the data set; its time counts as ``load``.
        seeds: each run's only source of randomness; the caller's global generators are left as they were.
        device: where to train.
        observer: told of steps and accuracies; of several seeds, the mean.
        clock: a new one when None.
        timing_valid: False when the caller knows that the machine is shared; contention that is measured says so too.
            Times of several seeds in one program never count.
        log_accuracy: measure test accuracy after every epoch, outside of the time that counts.
        checkpoint: where long runs are kept from epoch to epoch, and may be resumed from; the time of a resumed run
            does not count. It is the caller's to remove, once what is returned is in safety.
        backend: ``torch``, ``native`` for the compiled kernels, or ``auto`` for the faster of those that can.

    Returns:
        A run for each seed, in order, with its trained module; with status ``failed`` where the loss stopped being a
        finite number.

    Raises:
        HotlapError: recipe and data do not go together, the data cannot be loaded, the recipe cannot train several
            seeds in one program, or the asked backend cannot run it.
    """
    observer = observer or Silent()
    clock = clock or Clock(synchronise=synchroniser(device))
    started_at, environment = now(), capture(device)
    losses = LossWatch(len(seeds), device)
    at = Position()
    resumed = False
    # Warming up what is not timed would be a waste.
    may_count = timing_valid and len(seeds) == 1

    forgetting = explaining_memory(recipe, forget_trainers)
    with isolated(device), keeping_memory(), choosing_kernels(device), forgetting:
        with clock.phase("load"):
            data = in_memory(load(), device)
        with clock.phase("warmup"):
            trainer = make_trainer(recipe, data, seeds, device, backend)
            if may_count or recipe.engine.compile or device.type == "cuda":
                trainer.warm_up(len(data.x_train), len(data.x_test))
        others = Contention()
        with clock.phase("prepare"):
            trainer.prepare(data)
            digest = data.digest
            # The trainer has what it needs: letting go of the cache's memory map returns its pages.
            del data
        per_epoch = trainer.steps_per_epoch
        total = planned_steps(recipe, per_epoch)
        for remark in filter(None, (remark_on(recipe, device), remark_on_triton(recipe, device))):
            observer.remark(remark)
        observer.begin(recipe, seeds[0], total, recipe.batch_size * len(seeds))

        def train_epoch() -> None:
            for loss in trainer.epoch(at.step, total):
                at.step += 1
                losses.see(loss, at.step)
                observer.step(at.step, loss)
                if not losses.some_finite:
                    break
            losses.end_epoch(at.step)

        def measure() -> None:
            measured = trainer.measure()
            at.accuracies.append((at.step / per_epoch, measured))
            observer.accuracy(at.step / per_epoch, sum(measured) / len(measured))

        def reached() -> bool:
            return bool(recipe.stop_at and at.accuracies and at.accuracies[-1][1][0] >= recipe.stop_at)

        def between() -> bool:
            return bool(recipe.stop_at) or log_accuracy or (checkpoint is not None and checkpoint.due)

        state: dict[str, Stateful] = {
            **trainer.parts(),
            "losses": losses,
            "clock": clock,
            "noise": Generators(device),
            "position": at,
        }
        resumed = checkpoint is not None and checkpoint.restore(state)
        while at.step < total and not reached() and losses.some_finite:
            with clock.phase("train"):
                train_epoch()
                # The clock waits for the device, so a phase lasts until there is something else to do.
                while not between() and at.step < total and losses.some_finite:
                    train_epoch()
                if at.step == total:
                    trainer.finish()
            if losses.some_finite and (recipe.stop_at or at.step == total):
                with clock.phase("evaluate"):
                    # What evaluation needs lies otherwise, and would come on top.
                    give_back_memory()
                    measure()
            elif log_accuracy and losses.some_finite:
                with clock.phase("log"):
                    measure()
            if checkpoint is not None and at.step < total:
                with clock.phase("log"):
                    if problem := checkpoint.save(state):
                        observer.remark(problem)
        if at.step < total:
            trainer.finish()

    contention = others.cores()
    return [
        Run(
            recipe=recipe,
            seed=seed,
            status="failed" if losses.errors[k] else "done",
            accuracy=None if losses.errors[k] else at.accuracies[-1][1][k],
            accuracy_by_epoch=tuple((epochs, measured[k]) for epochs, measured in at.accuracies),
            loss_by_epoch=tuple(epoch[k] for epoch in losses.by_epoch),
            epochs_run=at.step / per_epoch,
            steps=at.step,
            phases={phase: seconds / len(seeds) for phase, seconds in clock.phases.items()},
            device=str(device),
            backend=trainer.backend,
            precision=trainer.precision,
            environment=environment,
            started_at=started_at,
            timing_valid=may_count and not resumed and not is_contended(contention, environment.cores),
            seeds_at_once=len(seeds),
            contention=contention,
            data_digest=digest,
            error=losses.errors[k],
            module=module,
        )
        for k, (seed, module) in enumerate(zip(seeds, trainer.modules(), strict=True))
    ]
