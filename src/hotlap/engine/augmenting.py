"""The augmentations and the mixing of a run, as the feed applies them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from hotlap.engine.devices import fuses
from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.native import gathering
from hotlap.recipe import Recipe
from hotlap.techniques import AUGMENTATIONS, MIXINGS, VIEWS
from hotlap.techniques.base import Augmentation, Mixing, Moment, Resizing
from hotlap.techniques.moving import draw, leading


class Augment:
    """The augmentations and the mixing of one seed, with their generator.

    Args:
        recipe: whose they are. With ``engine.fused``, kernels choose, mirror and shift images at once where there are
            some: on a CUDA GPU with Triton, and compiled ones on a CPU.
        rng: what they draw from.
    """

    def __init__(self, recipe: Recipe, rng: torch.Generator) -> None:
        self.rng = rng
        self.augmentations: list[Augmentation] = [AUGMENTATIONS.build(part) for part in recipe.augment]
        self.mixing: Mixing | None = MIXINGS.build(recipe.mixing) if recipe.mixing is not None else None
        self._fused = fuses(recipe, rng.device) == "triton"
        # Whole images are only copied, so that nothing is rounded, in float32 either.
        self._native = recipe.engine.fused and rng.device.type == "cpu"

    def __call__(self, images: Tensor, chosen: slice | Tensor, moment: Moment) -> Tensor:
        """Return chosen images of the training set, augmented.

        Args:
            images: the training set, (N, C, H, W).
            chosen: which, all in one stretch or one by one.
            moment: the same images, and when.
        """
        moves = self._moves()
        done = leading(self.augmentations) if moves is not None and moves.handles(images) else 0
        if done:
            size = (images.shape[2], images.shape[3])
            made: Tensor = moves.gather(images, moment.index, draw(self.augmentations[:done], size, self.rng, moment))
        else:
            made = _copied(images, chosen)
        for augment in self.augmentations[done:]:
            made = augment(made, self.rng, moment)
        return made

    def _moves(self) -> Any:
        """The module with ``handles`` and ``gather``, if any."""
        if self._fused:
            from hotlap.fused import moves

            return moves
        return gathering if self._native else None

    def mix(self, images: Tensor, labels: Tensor, classes: int, moment: Moment) -> tuple[Tensor, Tensor]:
        """Return a batch, its images and targets mixed where the recipe asks for it."""
        if self.mixing is None:
            return images, labels
        return self.mixing(images, functional.one_hot(labels, classes).to(images.dtype), self.rng, moment)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on with the next epoch after an interruption."""
        kept = [getattr(augment, "kept", None) for augment in self.augmentations]
        return {"rng": self.rng.get_state(), "kept": kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.rng.set_state(state["rng"])
        for augment, kept in zip(self.augmentations, state["kept"], strict=True):
            if hasattr(augment, "kept"):
                augment.kept = None if kept is None else kept.to(self.rng.device)


def _copied(images: Tensor, which: slice | Tensor) -> Tensor:
    """A slice, or a copy of some images; in contiguous memory whole images are copied, a third of the time on a CPU."""
    if isinstance(which, slice) or not images.is_contiguous():
        return images[which]
    return images.index_select(0, which)


def sizing(recipe: Recipe) -> Callable[[int, float, tuple[int, int]], tuple[int, int]]:
    """Return what tells the size (H, W) of training images, from the epoch, how many there are, and their own size."""
    resizing = [made for part in recipe.augment if isinstance(made := AUGMENTATIONS.build(part), Resizing)]

    def size_at(epoch: int, epochs: float, size: tuple[int, int]) -> tuple[int, int]:
        for augmentation in resizing:
            size = augmentation.size_at(epoch, epochs, size)
        return size

    return size_at


def check_augmentations(recipe: Recipe, shape: tuple[int, ...], classes: int) -> None:
    """Try the augmentations on two blank images, in the first epoch and in the last, and look at those of the test.

    What does not suit the size of the images is found before training so, and not after it.

    Raises:
        InputError: an augmentation, the mixing or the test-time augmentation cannot do with the images.
    """
    size = (shape[1], shape[2])
    trial = Augment(recipe, generator(0))
    try:
        for epoch in {0, math.ceil(recipe.epochs) - 1}:
            moment = Moment(epoch, recipe.epochs, torch.arange(2), count=2)
            made = trial(torch.zeros(2, *shape), slice(0, 2), moment)
            trial.mix(made, torch.zeros(2, dtype=torch.int64), classes, moment)
        if recipe.evaluation.augmentation is not None:
            VIEWS.build(recipe.evaluation.augmentation).check(size)
    except ValueError as error:
        raise InputError(f"{recipe.name} cannot augment images of {size[0]}×{size[1]} pixels: {error}") from None
