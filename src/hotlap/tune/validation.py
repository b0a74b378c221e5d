"""The rule that a search never sees the test set: every recipe it trains is held to images of the training set."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotlap import datasets
from hotlap.datasets import ImageData, held_out
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Recipe
from hotlap.result import Run

if TYPE_CHECKING:
    from hotlap.bench.session import Session

MOST_HELD_OUT = 10_000
HELD_OUT_SHARE = 1 / 6


@dataclass(frozen=True, slots=True)
class HoldOut:
    """Which training images a search is measured on.

    Attributes:
        images: how many, the same share of every class.
        seed: decides which.
    """

    images: int
    seed: int


def choose_hold_out(recipe: Recipe, wanted: int | float | None, seed: int) -> HoldOut:
    """Choose the images to hold out; loads the data set.

    Args:
        recipe: to be tuned. One whose data are held out already keeps its own choice.
        wanted: how many images, or which share of the training images when below 1; None for a sixth of them, at most
            10,000.
        seed: decides which.

    Raises:
        InputError: not a number of images that can be held out, or another than the recipe's own.
        DataError: the data cannot be had.
    """
    if recipe.data.name == held_out.NAME:
        own = HoldOut(recipe.data.options["images"], recipe.data.options["seed"])
        if wanted not in (None, own.images) or seed not in (0, own.seed):
            raise InputError(
                f"{recipe.name} holds out {own.images} images of its own (seed {own.seed})",
                "leave out --hold-out and --hold-out-seed, or tune it on the whole set with --data",
            )
        return own
    # not: so that NaN is refused
    if wanted is not None and not (0 < wanted < math.inf and (wanted < 1 or wanted == int(wanted))):
        raise InputError(f"{wanted:g} images cannot be held out", "for example --hold-out 10000, or a share: 0.1")
    count = len(datasets.load(recipe.data.name, **recipe.data.options).y_train)
    if wanted is None:
        wanted = min(HELD_OUT_SHARE, MOST_HELD_OUT / count)
    return HoldOut(max(1, round(wanted * count)) if wanted < 1 else int(wanted), seed)


def validation_recipe(recipe: Recipe, hold_out: HoldOut) -> Recipe:
    """Return the recipe with the held-out images in place of its test set; each recipe a search trains comes from here.

    It trains to its end: runs that stop at an accuracy of these images could not be ranked by it.

    Raises:
        InputError: so many images cannot be held out.
    """
    data = held_out.held_out(held_out.original(recipe.data), hold_out.images, hold_out.seed)
    return recipe.with_changes({"data": data, "stop_at": None})


def final_recipe(recipe: Recipe) -> Recipe:
    """Return a recipe on the data set itself, whose test images the search has not seen."""
    return recipe.with_changes({"data": held_out.original(recipe.data)})


def ensure_held_out(recipe: Recipe) -> None:
    """Refuse a recipe that is measured on anything but held-out training images.

    Raises:
        HotlapError: it is.
    """
    if recipe.data.name != held_out.NAME:
        raise HotlapError(
            f"a search must not see the test set of {recipe.data.name}", "give it a recipe made by validation_recipe"
        )


class ValidationRuns:
    """Runs on held-out images: those that are stored already, and those that come in.

    A stored run of the same recipe, seed and data counts wherever it was made, and by whichever backend unless one is
    asked for: a search asks for accuracy, which does not depend on what a machine's times are worth.

    Attributes:
        trained: how many runs came in.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._by_digest: dict[str, dict[int, Run]] = {}
        self.trained = 0

    def of(self, recipe: Recipe) -> dict[int, Run]:
        """Return the runs of a recipe by seed, failed ones too.

        Raises:
            HotlapError: the recipe is measured on test images.
            DataError: the data set cannot be had.
        """
        ensure_held_out(recipe)
        if recipe.digest not in self._by_digest:
            self._by_digest[recipe.digest] = self._stored(recipe)
        return self._by_digest[recipe.digest]

    def _stored(self, recipe: Recipe) -> dict[int, Run]:
        if self._session.store is None:
            return {}
        data_digest, backend = self._session.fetch(recipe), self._session.backend
        found: dict[int, Run] = {}
        for run in self._session.store.runs(digest=recipe.digest):
            if run.data_digest == data_digest and backend in ("auto", run.backend):
                found.setdefault(run.seed, run)
        return found

    def add(self, run: Run) -> None:
        """Note a run that came in.

        Raises:
            HotlapError: it was measured on test images.
        """
        self.of(run.recipe)[run.seed] = run
        self.trained += 1


def build_parts(recipe: Recipe, data: ImageData) -> None:
    """Build everything a recipe names, as an engine would, and throw it away; nothing trains.

    The caller's random numbers are left as they were.

    Raises:
        InputError: a part refuses its options.
    """
    import torch

    from hotlap.engine.averages import averaging_of
    from hotlap.engine.network import build_network, image_shape
    from hotlap.engine.seeding import isolated
    from hotlap.engine.updates import Updates
    from hotlap.optim.weights import weights_of
    from hotlap.techniques import AUGMENTATIONS, MIXINGS

    cpu = torch.device("cpu")
    with isolated(cpu):
        network = build_network(recipe, image_shape(data), data.classes, cpu)
        Updates(recipe, weights_of(network, recipe.batch_size))
        averaging_of(recipe, network)
        for augmentation in recipe.augment:
            AUGMENTATIONS.build(augmentation)
        if recipe.mixing is not None:
            MIXINGS.build(recipe.mixing)
