"""The training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from hotlap.datasets import ImageData
from hotlap.engine.clock import Clock
from hotlap.engine.contention import Contention, is_contended
from hotlap.engine.devices import synchroniser
from hotlap.engine.environment import capture
from hotlap.engine.evaluate import evaluate
from hotlap.engine.feed import make_feed
from hotlap.engine.network import build_network, forward_of, image_shape, initialise, precision
from hotlap.engine.seeding import Streams, isolated
from hotlap.engine.warmup import warm_up
from hotlap.errors import DivergenceError
from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.optim.schedules import Schedule
from hotlap.recipe import Recipe
from hotlap.result import Run

BACKEND = "torch"


class Observer(Protocol):
    """Follows a run; every call is made while the clock runs, so it must return at once."""

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None:
        """Follow a run that is about to train."""
        ...

    def step(self, done: int, loss: Tensor) -> None:
        """Note that ``done`` optimizer steps are done; reading ``loss`` waits for the device."""
        ...

    def accuracy(self, epochs: float, accuracy: float) -> None:
        """Note an accuracy measured on the test set after ``epochs``."""
        ...


@dataclass(frozen=True)
class Silent:
    """An observer that looks away."""

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None: ...  # noqa: D102
    def step(self, done: int, loss: Tensor) -> None: ...  # noqa: D102
    def accuracy(self, epochs: float, accuracy: float) -> None: ...  # noqa: D102


def train_once(
    recipe: Recipe,
    load: Callable[[], ImageData],
    seed: int,
    *,
    device: torch.device,
    observer: Observer | None = None,
    clock: Clock | None = None,
    timing_valid: bool = True,
    log_accuracy: bool = False,
) -> Run:
    """Train one network from scratch and measure it.

    Args:
        recipe: what to do.
        load: returns the data set; its time counts as ``load``.
        seed: the run's only source of randomness; the caller's global generators are left as they were.
        device: where to train.
        observer: told of steps and accuracies.
        clock: a new one when None.
        timing_valid: False when the caller knows that the machine is shared; contention that is measured says so too.
        log_accuracy: measure test accuracy after every epoch, outside of the time that counts.

    Returns:
        The run with its trained module; with status ``failed`` when the loss stopped being a finite number.

    Raises:
        HotlapError: recipe and data do not go together, or the data cannot be loaded.
    """
    observer = observer or Silent()
    clock = clock or Clock(synchronise=synchroniser(device))
    environment = capture(device)
    others = Contention()
    streams = Streams.of(seed)
    loss_of = partial(functional.cross_entropy, label_smoothing=recipe.label_smoothing)
    schedule: Schedule = SCHEDULES.build(recipe.schedule)
    accuracies: list[tuple[float, float]] = []
    losses: list[float] = []
    done, accuracy, error = 0, None, None

    with isolated(device):
        with clock.phase("load"):
            data = load()
            shape, classes = image_shape(data), data.classes
        with clock.phase("warmup"):
            network = build_network(recipe, shape, classes, device)
            forward = forward_of(network, recipe)
            warm_up(network, forward, loss_of, recipe, shape, classes, len(data.x_train), device)
        with clock.phase("prepare"):
            initialise(network, streams.init)
            torch.manual_seed(streams.noise)
            feed = make_feed(recipe, data, streams, device)
            optimizer = OPTIMIZERS.build(recipe.optimizer, params=network.parameters())
            digest = data.digest
            # The feed has what it needs: letting go of the cache's memory map returns its pages.
            del data
        per_epoch = feed.steps_per_epoch
        total = max(1, math.ceil(recipe.epochs * per_epoch - 1e-9))
        observer.begin(recipe, seed, total, recipe.batch_size)

        def measure() -> float:
            with precision(recipe, device):
                measured = evaluate(network, forward, feed.test())
            accuracies.append((done / per_epoch, measured))
            observer.accuracy(done / per_epoch, measured)
            return measured

        try:
            while done < total and not (accuracy and recipe.stop_at and accuracy >= recipe.stop_at):
                with clock.phase("train"):
                    watch = _LossWatch(device)
                    for images, labels in feed.epoch():
                        _set_lr(optimizer, recipe.optimizer.options["lr"] * schedule(done, total, per_epoch))
                        optimizer.zero_grad()
                        with precision(recipe, device):
                            loss = loss_of(forward(images), labels)
                        loss.backward()
                        optimizer.step()
                        done += 1
                        watch.see(loss, done)
                        observer.step(done, loss)
                        if done == total:
                            break
                    losses.append(watch.mean(done))
                if recipe.stop_at or done == total:
                    with clock.phase("evaluate"):
                        accuracy = measure()
                elif log_accuracy:
                    with clock.phase("log"):
                        measure()
        except DivergenceError as divergence:
            accuracy, error = None, str(divergence)

    contention = others.cores()
    return Run(
        recipe=recipe,
        seed=seed,
        status="failed" if error else "done",
        accuracy=accuracy,
        accuracy_by_epoch=tuple(accuracies),
        loss_by_epoch=tuple(losses),
        epochs_run=done / per_epoch,
        steps=done,
        phases=dict(clock.phases),
        device=str(device),
        backend=BACKEND,
        environment=environment,
        timing_valid=timing_valid and not is_contended(contention, environment.cores),
        contention=contention,
        data_digest=digest,
        error=error,
        module=network,
    )


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


class _LossWatch:
    """Mean loss of an epoch, and the check that it is still a number.

    On a CPU reading a loss costs nothing, so every step is checked; elsewhere it would stall the device, so the sum
    is checked at the end of the epoch.
    """

    def __init__(self, device: torch.device) -> None:
        self._every_step = device.type == "cpu"
        self._sum: Tensor | float = 0.0
        self._count = 0

    def see(self, loss: Tensor, step: int) -> None:
        value = loss.item() if self._every_step else loss.detach()
        self._sum = self._sum + value
        self._count += 1
        if self._every_step:
            self._check(step)

    def mean(self, step: int) -> float:
        self._check(step)
        return float(self._sum) / self._count

    def _check(self, step: int) -> None:
        if not math.isfinite(self._sum):
            raise DivergenceError(
                f"the loss stopped being a finite number at step {step}",
                "lower optimizer.lr, e.g. --set optimizer.lr=…",
            )
