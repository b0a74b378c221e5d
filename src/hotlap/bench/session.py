"""A session: recipes trained on one device, every finished run stored at once, none repeated."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hotlap import datasets
from hotlap.bench.executors import Executor, Job, Settings
from hotlap.bench.executors.local import LocalExecutor
from hotlap.bench.fitting import fitted, shrinks
from hotlap.bench.own_data import data_component, options_written
from hotlap.datasets.base import Progress
from hotlap.datasets.own import check_numbers
from hotlap.engine.backends import choose_backend, remark_on_missing
from hotlap.engine.checkpoint import Checkpoint
from hotlap.engine.devices import choose_device, use_threads
from hotlap.engine.loop import Observer, train_seeds
from hotlap.engine.network import image_shape
from hotlap.engine.precision import precision_of
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.ladders import ON_GPU
from hotlap.recipe import Component, Recipe
from hotlap.result import TIMING_RULES, Backend, Run
from hotlap.stats.summary import one_of_each_seed
from hotlap.store import Store


class _Facts(NamedTuple):
    """What is known of a data set once it has been loaded; shape is (C, H, W) of an image, pixels counts them all."""

    digest: str
    shape: tuple[int, int, int]
    classes: int
    pixels: int


class Session:
    """Trains recipes on one device with one number of threads.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of one operation; None leaves torch's choice.
        store: where finished and failed runs go as they come; None keeps them in memory only.
        observer: follows each run.
        download: follows the download of a data set.
        timing_valid: False when the machine is known to be shared.
        log_accuracy: measure test accuracy after every epoch, outside of the time that counts.
        backend: ``torch``, ``native`` for the compiled kernels, or ``auto`` for the faster of those that can.
        resume: go on with interrupted runs from their last checkpoint; long runs with a store write them beside it.

    Raises:
        InputError: the device is not there.
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        threads: int | None = None,
        store: Store | None = None,
        observer: Observer | None = None,
        download: Progress | None = None,
        timing_valid: bool = True,
        log_accuracy: bool = False,
        resume: bool = False,
        backend: Backend = "auto",
    ) -> None:
        self.device = choose_device(device)
        self.threads = threads
        self.store = store
        self.observer = observer
        self._download = download
        self._timing_valid = timing_valid
        self._log_accuracy = log_accuracy
        self._resume = resume
        self.backend = backend
        self._data: dict[Component, _Facts] = {}
        self._checkpoints: dict[tuple[str, int], Checkpoint] = {}

    def fetch(self, recipe: Recipe) -> str:
        """Make sure that the recipe's data set is on this machine, so that ``load`` times the disk and not a network.

        Returns:
            The data set's digest.

        Raises:
            DataError: it cannot be had.
        """
        return self._facts(recipe).digest

    def _facts(self, recipe: Recipe) -> _Facts:
        if recipe.data not in self._data:
            with options_written("--set data.KEY=VALUE"):
                data = datasets.load(recipe.data.name, progress=self._download, **recipe.data.options)
            pixels = data.x_train.size + data.x_test.size
            self._data[recipe.data] = _Facts(data.digest, image_shape(data), data.classes, pixels)
        return self._data[recipe.data]

    def backend_of(self, recipe: Recipe) -> Literal["torch", "native"]:
        """Return which backend a single run of the recipe is trained by.

        Raises:
            HotlapError: the recipe and its data do not go together, or not with the asked backend.
        """
        data = self._facts(recipe)
        return choose_backend(self.backend, recipe, data.shape, data.classes, self.device)

    def use_one_backend(self, recipes: Iterable[Recipe]) -> None:
        """Settle on one backend, so that times compare recipes and nothing else: PyTorch unless all can do without.

        Raises:
            HotlapError: as ``backend_of``.
        """
        if self.backend == "auto":
            self.backend = "native" if all(self.backend_of(recipe) == "native" for recipe in recipes) else "torch"

    def train(self, recipe: Recipe, seed: int) -> Run:
        """Train once, without storing the run.

        Raises:
            HotlapError: the recipe and the data do not go together.
        """
        return self.train_batch(recipe, [seed])[0]

    def train_batch(self, recipe: Recipe, seeds: Sequence[int]) -> list[Run]:
        """Train several seeds in one program, without storing the runs; their times do not count.

        Raises:
            HotlapError: the recipe and the data do not go together, or the recipe cannot be trained so.
        """
        self._check_room(recipe)
        with use_threads(self.threads):
            return train_seeds(
                recipe,
                lambda: datasets.load(recipe.data.name, **recipe.data.options),
                seeds,
                device=self.device,
                observer=self.observer,
                timing_valid=self._timing_valid,
                log_accuracy=self._log_accuracy,
                checkpoint=self._checkpoint(recipe, seeds[0]) if len(seeds) == 1 else None,
                backend=self.backend,
            )

    def _check_room(self, recipe: Recipe) -> None:
        """Refuse the user's own images where they do not fit into memory as PyTorch is given them, all at once."""
        pixels = self._facts(recipe).pixels
        at_once = recipe.feed.loading == "device" and self.device.type == "cpu"
        if at_once and datasets.options(recipe.data.name) and self.backend_of(recipe) == "torch":
            check_numbers(pixels)

    def _checkpoint(self, recipe: Recipe, seed: int) -> Checkpoint | None:
        """Return where an interrupted run is kept: beside the store; nowhere without one."""
        if self.store is None:
            return None
        import torch

        from hotlap import __version__

        identity = {
            "recipe": recipe.digest,
            "seed": str(seed),
            "data set": self.fetch(recipe),
            "kind of device": self.device.type,
            "precision": precision_of(recipe, self.device),
            "number of threads": str(self.threads or torch.get_num_threads()),
            "version of hotlap": __version__,
            "version of torch": torch.__version__,
            "backend": self.backend_of(recipe),
        }
        path = self.store.path.parent / "checkpoints" / f"{recipe.digest[:16]}-seed{seed}.safetensors"
        checkpoint = Checkpoint(path, identity, resume=self._resume)
        self._checkpoints[recipe.digest, seed] = checkpoint
        return checkpoint

    def run(self, recipe: Recipe, seed: int) -> Run:
        """Train once and store the run, failed or done.

        Raises:
            HotlapError: the recipe and the data do not go together.
        """
        return self._stored(self.train(recipe, seed))

    def run_all(self, jobs: Iterable[Job | None], executor: Executor | None = None) -> Iterator[Run]:
        """Train jobs and yield their runs, stored and without their networks, as they finish.

        Args:
            jobs: each distinct one is trained once; drawn as ``Executor`` says, so that they may depend on the runs
                that have come in.
            executor: where; in this process, in order, when None.

        Raises:
            HotlapError: a recipe and its data do not go together, or workers are lost.
        """
        drawn = self._with_data(jobs)
        if executor is not None:
            drawn = self._with_settings(drawn)
        for run in (executor or LocalExecutor(self.train)).run(drawn):
            yield self._stored(run)

    def _with_data(self, jobs: Iterable[Job | None]) -> Iterator[Job | None]:
        """Fetch a recipe's data set when its first job is drawn: workers that start together find it there."""
        for job in jobs:
            if job is not None:
                data = self._facts(job.recipe)
                if self.observer is not None and (
                    text := remark_on_missing(self.backend, job.recipe, data.shape, data.classes, self.device)
                ):
                    self.observer.remark(text)
            yield job

    def _with_settings(self, jobs: Iterable[Job | None]) -> Iterator[Job | None]:
        settings: dict[str, Settings] = {}
        for job in jobs:
            if job is None:
                yield None
                continue
            if job.recipe.digest not in settings:
                settings[job.recipe.digest] = self._settings(job.recipe)
            yield replace(job, settings=settings[job.recipe.digest])

    def _settings(self, recipe: Recipe) -> Settings:
        """Say how workers are to train a recipe: what depends on a processor, as this machine's would have it."""
        import torch

        cpu, data = torch.device("cpu"), self._facts(recipe)
        backend: Backend | None = None
        if self.backend == "auto":
            # What cannot be built is for the worker to refuse: its executor knows which job that was.
            with suppress(InputError):
                backend = choose_backend("auto", recipe, data.shape, data.classes, cpu)
        return Settings(
            backend=self.backend,
            cpu_backend=backend,
            cpu_precision=precision_of(recipe, cpu),
            log_accuracy=self._log_accuracy,
        )

    def _stored(self, run: Run) -> Run:
        if self.store is not None:
            self.store.add(run)
            # Not before: a store that is full or locked must not cost what has been trained.
            if (checkpoint := self._checkpoints.pop((run.recipe.digest, run.seed), None)) is not None:
                checkpoint.remove()
        return run

    def finished(self, recipe: Recipe, *, timed: bool = False, failed: bool = False) -> dict[int, Run]:
        """Return stored runs of the recipe that need not be repeated, by seed.

        Only runs that this machine and this software would repeat count: same data, device, threads, backend,
        processor or GPU, precision, torch, hotlap's version and timing rules. Of a seed's runs it is the one that
        stands for it everywhere (``one_of_each_seed``).

        Args:
            recipe: whose runs.
            timed: leave out runs whose times do not count.
            failed: give failed runs too: a seed that is tried again until it succeeds is no evidence.

        Raises:
            DataError: the data set cannot be had.
        """
        if self.store is None:
            return {}
        data_digest, backend = self.fetch(recipe), self.backend_of(recipe)
        precision = precision_of(recipe, self.device)
        from hotlap.engine.environment import capture

        with use_threads(self.threads):
            here = capture(self.device)

        def alike(run: Run) -> bool:
            there = run.environment
            same_machine = (there.cpu, there.gpu, there.threads) == (here.cpu, here.gpu, here.threads)
            same_software = (run.backend, there.torch, there.hotlap, run.timing_rules) == (
                backend, here.torch, here.hotlap, TIMING_RULES
            )  # fmt: skip
            same_numbers = (run.data_digest, run.precision) == (data_digest, precision)
            return same_machine and same_software and same_numbers

        found = [
            run
            for run in self.store.runs(digest=recipe.digest, status=None if failed else "done")
            # Which of several equal GPUs it was does not matter.
            if run.device.partition(":")[0] == self.device.type
            and alike(run)
            and (run.timing_valid or not timed or run.status == "failed")
        ]
        # A run stored under another name or target is the same training: show it as this recipe's.
        return {run.seed: replace(run, recipe=recipe) for run in one_of_each_seed(found)}


def resolve_recipe(
    recipe: str | Path | Recipe,
    *,
    changes: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    device: str = "cpu",
) -> Recipe:
    """Find or read a recipe and apply changes.

    Args:
        recipe: a recipe, its name, a data set's name, or the path of a JSON file.
        changes: dotted path → value, as ``Recipe.with_changes`` takes them.
        data: another data set: a known name, a folder of images or an ``.npz`` file.
        device: where it is to be trained, as ``Session`` takes it: a data set's name stands for another recipe on a
            CUDA GPU.

    Raises:
        InputError: no such recipe, an unreadable file, a change that cannot be made, or a device that is not there.
    """
    if isinstance(recipe, Recipe):
        resolved = recipe
    elif str(recipe).endswith(".json"):
        try:
            resolved = Recipe.from_json(Path(recipe).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read the recipe {recipe}: {error}") from None
    else:
        name = str(recipe)
        resolved = get_recipe(ON_GPU[name] if name in ON_GPU and choose_device(device).type == "cuda" else name)
    published = resolved.data
    if data is not None:
        resolved = resolved.with_changes(
            # Another data set has another mean and spread: they are taken from its training images.
            {"data": data_component(data), "feed.mean": None, "feed.std": None, "target": None},
            name=f"{resolved.name} on {Path(data).stem}",
        )
    if changes:
        shown = ", ".join(f"{path}={json.dumps(value, default=str)}" for path, value in changes.items())
        resolved = resolved.with_changes(changes, name=f"{resolved.name} [{shown}]")
    if data is None or not shrinks(resolved) or any(path.partition(".")[0] == "augment" for path in changes or {}):
        return resolved
    shape = datasets.published_shape(resolved.data.name)
    if shape is None:
        with options_written("--set data.KEY=VALUE"):
            shape = image_shape(datasets.load(resolved.data.name, **resolved.data.options))
    return fitted(resolved, published, shape)
