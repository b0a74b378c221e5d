"""What the loop trains: the network of one seed, or those of several seeds in one program."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap.engine.network import build_network, forward_of, initialise
from hotlap.engine.precision import convert, precision_of, weights_dtype
from hotlap.engine.seeding import Streams
from hotlap.engine.stacked import put, stack, take
from hotlap.errors import InputError
from hotlap.optim import STACKABLE
from hotlap.optim.weights import Weights, weights_of
from hotlap.recipe import Recipe
from hotlap.techniques import VIEWS


class Program:
    """A network, or ``seeds`` of them side by side, with everything that depends on their number.

    With one seed images are (n, C, H, W), labels (n,) and losses a scalar; with several, images are
    (n, seeds · C, H, W), labels (n, seeds) and losses (seeds,).

    Args:
        recipe: what to build.
        shape: (C, H, W) of one image.
        classes: number of classes.
        device: where to build it.
        seeds: how many networks.

    Raises:
        InputError: the recipe cannot train several seeds in one program.
    """

    def __init__(
        self, recipe: Recipe, shape: tuple[int, int, int], classes: int, device: torch.device, seeds: int
    ) -> None:
        self.seeds = seeds
        self.shape = (seeds * shape[0], *shape[1:])
        self.classes = classes
        self._smoothing = recipe.label_smoothing
        self.precision = precision_of(recipe, device)
        # Gradients of a mean loss would vanish in float16; those of the sum are what published recipes keep.
        self.loss_scale = float(recipe.batch_size) if self.precision == "fp16" else 1.0
        if seeds > 1:
            _check(recipe)
        # Weights are drawn on the CPU in float32, so that a seed means the same weights on every device.
        self._drawn = build_network(recipe, shape, classes, torch.device("cpu"))
        self._as_drawn = seeds == 1 and device.type == "cpu" and weights_dtype(self.precision) is torch.float32
        network = (
            self._drawn if self._as_drawn else stack(self._drawn, seeds) if seeds > 1 else copy.deepcopy(self._drawn)
        )
        self.network: nn.Module = convert(network.to(device), self.precision)
        self.forward: Callable[[Tensor], Tensor] = forward_of(self.network, recipe, self.precision)

    def initialise(self, streams: Sequence[Streams], first_images: Callable[[int], Tensor]) -> None:
        """Draw all weights anew, in place, each network's from the stream of its seed.

        Args:
            streams: one for each seed.
            first_images: returns that many training images, normalised, for layers that are fitted to the data.
        """
        for index, stream in enumerate(streams):
            initialise(self._drawn, stream.init)
            if not self._as_drawn:
                put(self.network, self._drawn, index, self.seeds)
        for module in self.network.modules():
            if callable(fit := getattr(module, "fit_to", None)):
                fit(first_images)
        torch.manual_seed(streams[0].noise)

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of a batch, for each seed.

        Args:
            images: as described for the class.
            labels: classes, or shares of the classes (n, classes); with several seeds (n, classes, seeds).
        """
        logits = self.forward(images).float()
        if self.seeds == 1:
            return functional.cross_entropy(logits, labels, label_smoothing=self._smoothing)
        logits = logits.view(len(images), self.seeds, self.classes).transpose(1, 2)
        each = functional.cross_entropy(logits, labels, label_smoothing=self._smoothing, reduction="none")
        return each.mean(0)

    def weights(self, recipe: Recipe) -> Weights:
        """Return what an optimizer of the recipe gets."""
        return weights_of(self.network, recipe.batch_size, self.loss_scale)

    def backward(self, loss: Tensor) -> None:
        """Set the gradients of a loss or of one for each seed, times ``loss_scale``."""
        (loss.sum() if self.loss_scale == 1 else self.loss_scale * loss.sum()).backward()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set the network to evaluation mode for the block, then back to training mode."""
        self.network.eval()
        try:
            yield
        finally:
            self.network.train()

    def answer(self, images: Tensor) -> Tensor:
        """Return the logits of images (n, C, H, W), the same for every seed: (n, seeds · classes)."""
        return self.forward(images if self.seeds == 1 else images.repeat(1, self.seeds, 1, 1))

    def correct(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Count the images classified correctly, for each seed.

        Args:
            logits: (n, seeds · classes).
            labels: (n,).

        Returns:
            (seeds,) int64.
        """
        return (logits.view(len(labels), self.seeds, self.classes).argmax(2) == labels[:, None]).sum(0)

    def modules(self) -> list[nn.Module]:
        """Return the trained network of each seed."""
        if self.seeds == 1:
            return [self.network]
        made = [convert(copy.deepcopy(self._drawn), self.precision) for _ in range(self.seeds)]
        for index, module in enumerate(made):
            take(self.network, module, index, self.seeds)
        return made


def _check(recipe: Recipe) -> None:
    way_out = "train them one after another, or with --jobs"
    if recipe.stop_at is not None:
        raise InputError(
            f"several seeds of {recipe.name} cannot be trained in one program: each stops at an epoch of its own",
            way_out,
        )
    for kind, component in (("averaging", recipe.averaging), ("selection", recipe.selection)):
        if component is not None:
            raise InputError(
                f"several seeds cannot be trained in one program: {kind} {component.name} is not made for it", way_out
            )
    views = recipe.evaluation.augmentation
    if views is not None and VIEWS.build(views).per_image:
        raise InputError(
            f"several seeds cannot be trained in one program: {views.name} looks at each one's answers", way_out
        )
    if recipe.optimizer.name not in STACKABLE:
        raise InputError(
            f"several seeds cannot be trained in one program: optimizer {recipe.optimizer.name} is not made for it",
            way_out,
        )
    if recipe.feed.loading != "device":
        raise InputError(
            "several seeds cannot be trained in one program from the per-image feed", "--set feed.loading=device"
        )
