"""A trained network with everything that using it takes, and its way into bytes and back."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap.datasets import ImageData
from hotlap.engine.devices import choose_device
from hotlap.engine.feed import MEMORY_FORMATS, normalisation, normalised
from hotlap.engine.network import build_network, image_shape
from hotlap.engine.precision import Precision, context, convert, weights_dtype
from hotlap.engine.seeding import isolated
from hotlap.errors import HotlapError, InputError
from hotlap.result import Run
from hotlap.saved.header import Facts
from hotlap.startup import complete
from hotlap.techniques import VIEWS
from hotlap.techniques.views import Views

_AGAIN = "make it again: hotlap train RECIPE --save FILE"


class SavedModel:
    """A trained network that answers for images; pickles as the bytes of its file.

    Args:
        facts: what it is.
        network: trained, its weights as they are evaluated; moved to the device and set to evaluation mode, in place.
        device: where it answers.

    Attributes:
        facts: everything about it but the weights.
        network: from normalised images (N, C, H, W) to logits (N, classes).
        device: where it is.
    """

    def __init__(self, facts: Facts, network: nn.Module, device: torch.device) -> None:
        self.facts = facts
        self.device = device
        # float16 is slow on a CPU: there it is float32, as it is when training.
        low = facts.precision == "fp16" and device.type == "cpu"
        self._precision = cast(Precision, "fp32" if low else facts.precision)
        network = network.to(device)
        self.network = (network.float() if low else network).eval().requires_grad_(False)

    @classmethod
    def of(cls, run: Run, data: ImageData, *, tested: bool = True) -> Self:
        """Take the network of a run made in this process; a copy, on the CPU.

        Args:
            run: finished, with its network.
            data: what it was trained on.
            tested: False when the run's accuracy means nothing, for want of a test set.

        Raises:
            InputError: the run failed or has no network, or the data set is another.
        """
        if run.accuracy is None:
            raise InputError(f"seed {run.seed} of {run.recipe.name} failed ({run.error}): there is nothing to save")
        if run.module is None:
            raise InputError("the run has no network: only runs made in this process do", "use hotlap.train")
        if data.digest != run.data_digest:
            raise InputError(
                f"{data.name} is not what seed {run.seed} was trained on: it has changed since", "train it again"
            )
        mean, std = normalisation(run.recipe, data)
        facts = Facts(
            recipe=run.recipe,
            shape=image_shape(data),
            classes=data.class_names,
            mean=mean,
            std=std,
            precision=run.precision,
            seed=run.seed,
            accuracy=run.accuracy if tested else None,
            data_digest=run.data_digest,
        )
        return cls(facts, _rebuilt(facts, run.module.state_dict(), "the network"), torch.device("cpu"))

    def on(self, device: str) -> Self:
        """Move the network to ``auto``, ``cpu``, ``cuda`` or ``cuda:N``, in place, and return the model itself.

        Raises:
            InputError: the device is not there.
        """
        if choose_device(device) != self.device:
            self.__dict__.update(self.from_bytes(self.to_bytes(), device=device).__dict__)
        return self

    def without_augmentation(self) -> Self:
        """Return a copy on the CPU that answers in float32 from the images as they are, for comparison."""
        network = copy.deepcopy(self.network).cpu().float()
        recipe = self.facts.recipe.with_changes({"evaluation.augmentation": None})
        return type(self)(replace(self.facts, recipe=recipe, precision="fp32"), network, torch.device("cpu"))

    # -- bytes --------------------------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the content of its file: safetensors, with the facts as text in the header; always the same bytes."""
        from safetensors.torch import save

        tensors = {
            # Copies: safetensors refuses tensors that share memory.
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self._as_trained().state_dict().items()
        }
        return _in_order(save(tensors, metadata=self.facts.to_metadata()))

    def _as_trained(self) -> nn.Module:
        """Return the network in the precision that the facts name; float32 made of float16 goes back exactly."""
        if self._precision == self.facts.precision:
            return self.network
        return convert(copy.deepcopy(self.network), cast(Precision, self.facts.precision))

    @classmethod
    def from_bytes(cls, content: bytes, *, device: str = "auto", name: str = "the model") -> Self:
        """Read what ``to_bytes`` returned.

        Args:
            content: of the file.
            device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
            name: of the file, for errors.

        Raises:
            InputError: the content is damaged, is no saved model or newer than this hotlap, or the device is not
                there.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load

        place = choose_device(device)
        try:
            tensors: dict[str, Tensor] = load(content)
            # The library reads a header's texts from files only.
            metadata = _cut(content)[0].get("__metadata__") or {}
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{name} is not a safetensors file, or damaged: {error}", _AGAIN) from None
        facts = Facts.from_metadata(metadata, name)
        return cls(facts, _rebuilt(facts, tensors, name), place)

    def __getstate__(self) -> dict[str, Any]:
        return {"content": self.to_bytes(), "device": str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        try:
            choose_device(device := state["device"])
        except InputError:
            # It was pickled on a machine with a GPU.
            device = "auto"
        self.__dict__.update(self.from_bytes(state["content"], device=device).__dict__)

    # -- answers ------------------------------------------------------------------------------------------------

    def predict_proba(self, images: NDArray[np.uint8], *, batch_size: int | None = None) -> NDArray[np.float64]:
        """Return how likely each class is, by a softmax over the logits in float64.

        The logits are those that the run's accuracy was measured with, its test-time augmentation included, but for
        compilation: a network is never compiled here. A test-time augmentation that chooses among the images, such as
        ``selective``, chooses among those of one call.

        Args:
            images: (N, H, W) or (N, H, W, C) uint8, of the size the model was trained on; not modified.
            batch_size: images at once; None for the recipe's.

        Returns:
            (N, classes) float64; rows sum to one.

        Raises:
            InputError: images of another shape or type.
        """
        proba: NDArray[np.float64] = self._logits(images, batch_size).double().softmax(1).cpu().numpy()
        return proba

    def predict(self, images: NDArray[np.uint8], *, batch_size: int | None = None) -> NDArray[np.int64]:
        """Return the most likely class of each image: (N,) int64, positions in ``facts.classes``.

        Args:
            images: as for ``predict_proba``.
            batch_size: as for ``predict_proba``.

        Raises:
            InputError: images of another shape or type.
        """
        answers: NDArray[np.int64] = self._logits(images, batch_size).argmax(1).cpu().numpy()
        return answers

    @torch.no_grad()
    def _logits(self, images: NDArray[np.uint8], batch_size: int | None) -> Tensor:
        """Return (N, classes) float32."""
        pixels = self._pixels(images)
        size = batch_size if batch_size is not None else self.facts.recipe.evaluation.batch_size
        if size < 1:
            raise InputError(f"a batch has at least 1 image, not {size}")
        how = self.facts.recipe.evaluation.augmentation
        with context(self._precision, self.device):
            if how is None:
                found = [self.network(batch).float() for batch in self._batches(pixels, size)]
            else:
                views: Views = VIEWS.build(how)
                at_once = len(pixels) if views.per_image else size
                found = [views.logits(self.network, batch, size) for batch in self._batches(pixels, max(at_once, 1))]
        return torch.cat(found) if found else torch.empty(0, len(self.facts.classes))

    def _batches(self, pixels: NDArray[np.uint8], size: int) -> Iterator[Tensor]:
        memory_format = MEMORY_FORMATS[self.facts.recipe.engine.memory_format]
        dtype = weights_dtype(self._precision)
        for start in range(0, len(pixels), size):
            some = pixels[start : start + size]
            yield normalised(some, self.facts.mean, self.facts.std, self.device, memory_format, dtype)

    def _pixels(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return images as (N, C, H, W), a view."""
        channels, height, width = self.facts.shape
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
            kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
            raise InputError(f"images are arrays of uint8, 0 to 255, not {kind}")
        last = images[..., None] if images.ndim == 3 else images
        if last.ndim != 4 or last.shape[1:] != (height, width, channels):
            wanted = f"(N, {height}, {width}, {channels})" + (f" or (N, {height}, {width})" if channels == 1 else "")
            raise InputError(f"images are {wanted} for this model, not {images.shape}")
        return last.transpose(0, 3, 1, 2)


def _rebuilt(facts: Facts, tensors: dict[str, Tensor], name: str) -> nn.Module:
    """Build the network anew on the CPU, with the weights given; InputError where they are not its own."""
    complete()
    try:
        # Without memory at first: a damaged recipe may ask for any size.
        with torch.device("meta"):
            expected = _built(facts, torch.device("meta")).state_dict()
    except (HotlapError, RuntimeError, ValueError, TypeError, OverflowError) as error:
        cause, fix = (error.cause, error.fix) if isinstance(error, HotlapError) else (str(error), None)
        raise InputError(f"the recipe in {name} gives no network: {cause}", fix or _AGAIN) from None
    _check_tensors(tensors, expected, name)
    with isolated(torch.device("cpu")):
        network = _built(facts, torch.device("cpu"))
    network.load_state_dict(tensors)
    return network


def _check_tensors(tensors: dict[str, Tensor], expected: dict[str, Tensor], name: str) -> None:
    bad = f"the weights in {name} are not those of its recipe"
    if missing := [key for key in expected if key not in tensors]:
        raise InputError(f"{bad}: {_some(missing)} is missing", _AGAIN)
    if surplus := [key for key in tensors if key not in expected]:
        raise InputError(f"{bad}: {_some(surplus)} is not in the network", _AGAIN)
    for key, wanted in expected.items():
        tensor = tensors[key]
        if tensor.shape != wanted.shape:
            shapes = f"{tuple(tensor.shape)} where the network has {tuple(wanted.shape)}"
            raise InputError(f"{bad}: {key} is {shapes}", _AGAIN)
        if tensor.dtype != wanted.dtype:
            raise InputError(f"{bad}: {key} is {tensor.dtype}, not {wanted.dtype}", _AGAIN)
        if not torch.isfinite(tensor).all():
            raise InputError(f"{name} has weights that are not finite numbers: {key}", "train it again")


def _cut(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Cut a safetensors file into its header and its weights."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def _in_order(content: bytes) -> bytes:
    """Sort the texts of a header, which the library writes in an order of chance."""
    header, weights = _cut(content)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    # Weights begin at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + weights


def _built(facts: Facts, device: torch.device) -> nn.Module:
    network = build_network(facts.recipe, facts.shape, len(facts.classes), device)
    return convert(network, cast(Precision, facts.precision))


def _some(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
