"""Which backend runs a recipe: PyTorch, or the compiled kernels where they can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from hotlap.datasets import ImageData
from hotlap.engine.augmenting import check_augmentations
from hotlap.engine.feed import check_data
from hotlap.engine.network import build_network, image_shape
from hotlap.engine.precision import precision_of
from hotlap.engine.seeding import Streams
from hotlap.engine.torch_trainer import TorchTrainer
from hotlap.engine.trainer import Trainer
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Backend

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def why_not_native(
    recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device, seeds: int = 1
) -> str | None:
    """Say in a few words why the compiled kernels cannot run a recipe; None where they can.

    The caller's global generators are left as they were.

    Raises:
        InputError: the recipe cannot be built at all.
    """
    from hotlap.native.library import missing

    if device.type != "cpu":
        return "they are for CPUs"
    if seeds > 1:
        return "they train one seed at a time"
    if reason := missing():
        return reason
    return outside_family(recipe, shape, classes)


def outside_family(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> str | None:
    """Say what about a recipe the compiled kernels were not made for, whether or not they are there; None for nothing.

    Raises:
        InputError: the recipe cannot be built at all.
    """
    from hotlap.engine.native_trainer import translate
    from hotlap.native.family import OutsideFamilyError

    cpu = torch.device("cpu")
    if recipe.engine.compile:
        return "it is compiled by torch.compile"
    if precision_of(recipe, cpu) != "fp32":
        return f"it computes in {precision_of(recipe, cpu)}"
    with torch.random.fork_rng(devices=[]):
        network = build_network(recipe, shape, classes, cpu)
        try:
            translate(recipe, network, shape)
        except OutsideFamilyError as reason:
            return str(reason)
    return None


def remark_on_missing(
    asked: Backend, recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device
) -> str | None:
    """Say in a line that PyTorch trains what the compiled kernels could, were they there; None where it is not so.

    Raises:
        InputError: the recipe cannot be built at all.
    """
    from hotlap.native.library import missing

    reason = missing() if device.type == "cpu" else None
    if reason is None or (asked != "auto" and not recipe.engine.winograd):
        return None
    if not recipe.engine.winograd and outside_family(recipe, shape, classes):
        return None
    return (
        f"PyTorch does what the faster compiled kernels could: {reason} → install g++ or clang, then reinstall hotlap"
    )


def choose_backend(
    asked: Backend,
    recipe: Recipe,
    shape: tuple[int, int, int],
    classes: int,
    device: torch.device,
    seeds: int = 1,
) -> Literal["torch", "native"]:
    """Decide which backend runs a recipe.

    Raises:
        InputError: no such backend, or the compiled kernels are asked for and cannot run it.
    """
    if asked not in BACKENDS:
        raise InputError(f"no backend is called {asked!r}", "--backend auto, torch or native")
    if asked == "torch":
        return "torch"
    reason = why_not_native(recipe, shape, classes, device, seeds)
    if reason and asked == "native":
        raise InputError(f"the compiled kernels cannot run {recipe.name}: {reason}", "--backend torch")
    return "torch" if reason else "native"


def make_trainer(
    recipe: Recipe, data: ImageData, seeds: Sequence[int], device: torch.device, backend: Backend
) -> Trainer:
    """Build what trains a recipe.

    Raises:
        InputError: the recipe cannot be built, or not by the asked backend, or does not suit the data.
    """
    # Before anything is warmed up, which takes long and knows nothing of the data but its shape.
    check_data(recipe, data)
    shape, classes = image_shape(data), data.classes
    check_augmentations(recipe, shape, classes)
    streams = [Streams.of(seed) for seed in seeds]
    if choose_backend(backend, recipe, shape, classes, device, len(seeds)) == "native":
        from hotlap.engine.native_trainer import NativeTrainer

        return NativeTrainer(recipe, shape, classes, streams[0])
    if device.type != "cuda":
        return TorchTrainer(recipe, shape, classes, device, streams)
    key = (recipe.digest, shape, classes, str(device), len(seeds))
    kept = _kept.pop(key, None)
    if kept is None:
        # The oldest goes first, so that its memory is free for what comes.
        while len(_kept) >= _KEPT_AT_MOST:
            del _kept[next(iter(_kept))]
        kept = TorchTrainer(recipe, shape, classes, device, streams)
    kept.streams = streams
    _kept[key] = kept
    return kept


def forget_trainers() -> None:
    """Let go of the programs that are kept for later runs on a GPU, and of their memory."""
    _kept.clear()


_KEPT_AT_MOST = 2
_kept: dict[tuple[object, ...], TorchTrainer] = {}
"""On a GPU, what trained the latest recipes: its compiled code and recorded steps serve their next runs too."""
