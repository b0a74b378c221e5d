"""What does not suit the images is found before training, whenever in training it would come to bear."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hotlap import datasets
from hotlap.engine.augmenting import check_augmentations
from hotlap.engine.loop import Silent, train_once
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import part
from tiny import tiny

SIX = part("six-view", shift=12)
UNFIT = {
    "test-time augmentation": ({"evaluation.augmentation": SIX}, "shift is below 12 for images of 12×12, not 12"),
    "of the least sure": (
        {"evaluation.augmentation": part("selective", of=SIX, share=0.01)},
        "shift is below 12 for images of 12×12",
    ),
    "mixing at the end": (
        {"mixing": part("cutmix", size=13, last_epochs=1.0)},
        "size is from 0 to 12 for images of 12×12, not 13",
    ),
    "augmentation": ({"augment": [part("cutout", size=13)]}, "size is from 0 to 12"),
}


class _NoStep(Silent):
    def step(self, done: int, loss: torch.Tensor) -> None:
        raise AssertionError("trained a step")


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize(("changes", "told"), UNFIT.values(), ids=UNFIT)
def test_what_does_not_fit_is_refused_before_the_first_step(
    changes: dict[str, Any], told: str, timed: bool, backend: Any
) -> None:
    recipe = tiny().with_changes(changes)
    load = lambda: datasets.load("synthetic", **recipe.data.options)  # noqa: E731
    with pytest.raises(InputError, match="tiny cannot augment images of 12×12 pixels: " + told):
        train_once(recipe, load, 0, device=torch.device("cpu"), observer=_NoStep(), timing_valid=timed, backend=backend)


@pytest.mark.parametrize("name", ["cifar10-airbench/94-muon", "cifar10-hlb/94", "mnist/record"])
def test_what_fits_is_not_refused(name: str) -> None:
    recipe = get_recipe(name)
    channels = len(recipe.feed.mean or ())
    check_augmentations(recipe, (channels, 28, 32), 10)
