from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from hotlap import datasets
from hotlap.engine.inspect import inspect_recipe
from hotlap.engine.loop import train_once
from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import part
from hotlap.techniques import AUGMENTATIONS
from hotlap.techniques.base import Moment
from hotlap.techniques.shrink import Shrink, area_weights, shrink
from tiny import tiny

IMAGES = torch.randn(5, 3, 12, 18, generator=generator(0))


def test_a_whole_factor_is_average_pooling() -> None:
    torch.testing.assert_close(shrink(IMAGES, (6, 6)), functional.avg_pool2d(IMAGES, (2, 3)))


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (11, 17), (7, 18)])
def test_the_mean_of_an_image_and_a_constant_image_stay(size: tuple[int, int]) -> None:
    small = shrink(IMAGES, size)
    assert small.shape == (5, 3, *size)
    torch.testing.assert_close(small.mean((2, 3)), IMAGES.mean((2, 3)))
    torch.testing.assert_close(shrink(torch.full((1, 1, 12, 18), 2.5), size), torch.full((1, 1, *size), 2.5))


def test_it_commutes_with_the_mirror_image() -> None:
    torch.testing.assert_close(shrink(IMAGES.flip(-1), (8, 11)), shrink(IMAGES, (8, 11)).flip(-1))


def test_a_pixel_between_two_takes_part_of_each() -> None:
    torch.testing.assert_close(area_weights(3, 2), torch.tensor([[2.0, 1, 0], [0, 1, 2]]) / 3)


def test_stages_follow_the_share_of_training() -> None:
    augment = Shrink((0.5, 0.84), (16, 24))

    def sides(epochs: float) -> list[int]:
        return [augment.size_at(epoch, epochs, (32, 32))[0] for epoch in range(int(epochs))]

    assert sides(8) == [16, 16, 16, 16, 24, 24, 24, 32]
    assert sides(6) == [16, 16, 16, 24, 24, 32], "the last epoch is whole"
    assert sides(1) == [32]
    # Three sevenths are no binary fraction; the fourth of seven epochs begins there exactly all the same.
    assert [Shrink((3 / 7,), (16,)).size_at(epoch, 7, (32, 32))[0] for epoch in range(7)] == [16] * 3 + [32] * 4


def test_proportions_stay_and_small_images_are_left_alone() -> None:
    augment = Shrink((0.5,), (9,))
    assert augment.size_at(0, 4, (12, 18)) == (6, 9)
    index = torch.arange(5)
    assert augment(IMAGES, generator(0), Moment(0, 4.0, index, 5)).shape == (5, 3, 6, 9)
    assert augment(IMAGES, generator(0), Moment(2, 4.0, index, 5)) is IMAGES


@pytest.mark.parametrize(
    ("until", "sides"),
    [((), ()), ((0.5,), (9, 10)), ((0.5, 0.5), (9, 10)), ((1.0,), (9,)), ((0.0,), (9,)), ((0.5,), (0,))],
)
def test_bad_stages_are_refused(until: tuple[float, ...], sides: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shrink"):
        AUGMENTATIONS.build(part("shrink", until=until, sides=sides))


def test_images_are_never_enlarged() -> None:
    recipe = tiny(augment=[part("shrink", until=(0.5,), sides=(13,))])
    load = lambda: datasets.load("synthetic", **recipe.data.options)  # noqa: E731
    with pytest.raises(InputError, match="12×12 cannot be shrunk to 13×13"):
        train_once(recipe, load, 0, device=torch.device("cpu"))


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
def test_the_engine_trains_on_batches_of_changing_size(memory_format: str) -> None:
    """Batch norm, the optimizer and the last pooling take every size, and evaluation sees whole images."""
    recipe = get_recipe("cifar10-airbench/94-muon")
    augment = (*recipe.augment, part("shrink", until=(0.3, 0.8), sides=(10, 13)))
    data = part("synthetic", train=48, test=16, size=18, channels=3, classes=10, seed=0, noise=0.2)
    recipe = recipe.with_changes({
        "data": data, "epochs": 4.0, "batch_size": 16, "evaluation.batch_size": 16, "model.widths": (8, 16, 16),
        "augment": augment, "engine.memory_format": memory_format,
    })  # fmt: skip
    load = lambda: datasets.load("synthetic", **data.options)  # noqa: E731
    run = train_once(recipe, load, 0, device=torch.device("cpu"))
    assert run.status == "done"
    again = train_once(recipe, load, 0, device=torch.device("cpu"))
    assert (again.loss_by_epoch, again.accuracy) == (run.loss_by_epoch, run.accuracy)


def test_inspection_counts_small_images_as_small() -> None:
    recipe = get_recipe("cifar10-airbench/94-muon")
    small = recipe.with_changes({"augment": (*recipe.augment, part("shrink", until=(0.5,), sides=(16,)))})
    whole, half, all_small = (
        inspect_recipe(of, (3, side, side), 10, train_images=2000, test_images=0)
        for of, side in ((recipe, 32), (small, 32), (recipe, 16))
    )
    assert half.training_flop == whole.training_flop
    assert half.recipe_flop == (whole.recipe_flop + all_small.recipe_flop) // 2
