"""Recipes: complete, frozen training configurations made of names and numbers only.

A recipe holds no callables, so it prints, diffs, hashes and travels as JSON. It is complete: nothing that changes the
trained network lives in a default elsewhere, so equal digests mean equal training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from hotlap import _tree as tree
from hotlap._tree import Change, Component, Value, part, show_value
from hotlap.errors import InputError, unknown_name

__all__ = [
    "Change", "Component", "EngineOptions", "Evaluation", "Feed", "Recipe", "Value",
    "diff", "parse_set", "part", "paths", "plain", "show_value",
]  # fmt: skip

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How images reach the network.

    Attributes:
        loading: ``device`` holds the whole normalised set as one tensor on the device; ``per-image`` reads and
            transforms one image at a time from disk in a DataLoader with one worker, as PyTorch's example does.
        shuffle: ``every-epoch`` draws a new order each epoch; ``once`` draws one order per run and keeps it.
        drop_last: leave out the last partial batch of an epoch.
        mean: per-channel mean of the pixels scaled to 0–1, subtracted; None takes it from the training set.
        std: per-channel divisor after the mean; None takes it from the training set.
    """

    loading: Literal["device", "per-image"]
    shuffle: Literal["every-epoch", "once"]
    drop_last: bool
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None

    def __post_init__(self) -> None:
        if self.std is not None and any(s <= 0 for s in self.std):
            raise InputError(f"feed.std must be positive, not {self.std}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """How accuracy is measured: in batches of ``batch_size`` images, with an optional test-time augmentation."""

    batch_size: int
    augmentation: Component | None = None

    def __post_init__(self) -> None:
        _at_least(1, "evaluation.batch_size", self.batch_size)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How the arithmetic is done; each may be changed without changing the method.

    Attributes:
        precision: ``fp32``; ``bf16`` for automatic mixed precision; ``fp16`` for weights and images in float16, which
            becomes fp32 on a CPU; ``auto`` for what the device does fast.
        memory_format: ``contiguous`` (NCHW) or ``channels_last`` (NHWC in memory).
        compile: compile the network with torch.compile during warm-up.
        winograd: on a CPU in float32, compute 3×3 convolutions by Winograd's algorithm in hotlap's own kernels.
        cuda_graphs: on a CUDA GPU, record each kind of training step once during warm-up and then replay it whole.
        fused: in channels-last memory, pool, normalise and activate in hotlap's own kernels: on a CUDA GPU with Triton,
            and on a CPU in bfloat16 or with ``winograd``. Choose, mirror and shift images in them: on both.
        amx: on a CPU with matrix registers (Intel's AMX) in bfloat16, compute 3×3 convolutions in hotlap's own kernels.
    """

    precision: Literal["fp32", "bf16", "fp16", "auto"] = "fp32"
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    compile: bool = False
    winograd: bool = False
    cuda_graphs: bool = True
    fused: bool = True
    amx: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A complete training configuration.

    Attributes:
        name: ``ladder/rung`` or any name of the user's; not part of the digest.
        data: data set and its options.
        feed: loading, order and normalisation.
        augment: training augmentations, applied in order.
        mixing: augmentation that mixes images and targets, after all others; None leaves targets alone.
        model: network and its options.
        label_smoothing: share of the target spread over all classes.
        optimizer: optimizer and its options.
        schedule: learning-rate schedule; multiplies or replaces the optimizer's ``lr``.
        averaging: average of the weights that is evaluated in their place; None evaluates the weights themselves.
        selection: choice of the images of each batch that are trained on; None trains on all.
        batch_size: images per optimizer step.
        epochs: passes over the training set; a fraction ends in mid-epoch.
        stop_at: test accuracy (0–1) at which training ends early, measured after every epoch; None never measures.
        evaluation: how accuracy is measured.
        engine: precision, memory format, compilation.
        target: accuracy (0–1) the recipe is meant to reach; not part of the digest.
    """

    name: str
    data: Component
    feed: Feed
    augment: tuple[Component, ...] = ()
    mixing: Component | None = None
    model: Component
    label_smoothing: float = 0.0
    optimizer: Component
    schedule: Component
    averaging: Component | None = None
    selection: Component | None = None
    batch_size: int
    epochs: float
    stop_at: float | None = None
    evaluation: Evaluation
    engine: EngineOptions = field(default_factory=EngineOptions)
    target: float | None = None

    def __post_init__(self) -> None:
        _at_least(1, "batch_size", self.batch_size)
        object.__setattr__(self, "epochs", float(self.epochs))
        if not (math.isfinite(self.epochs) and self.epochs > 0):
            raise InputError(f"epochs must be positive, not {self.epochs}")
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"label_smoothing must be in [0, 1), not {self.label_smoothing}")
        for key in ("target", "stop_at"):
            value = getattr(self, key)
            if value is not None and not 0 < value <= 1:
                raise InputError(f"{key} is an accuracy between 0 and 1, not {value}")

    # -- JSON ---------------------------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, with the format version."""
        return {"format": FORMAT, **tree.encode(self)}

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the recipe as a JSON document that ``from_json`` reads back to an equal recipe."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False, ensure_ascii=False)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read a recipe from plain JSON types.

        Raises:
            InputError: an unknown, missing or ill-typed key, or a newer format.
        """
        document = dict(document)
        version = document.pop("format", FORMAT)
        if version != FORMAT:
            raise InputError(f"recipe format {version!r} is not known here (this is {FORMAT})", "upgrade hotlap")
        recipe = tree.decode(cls, document, "")
        assert isinstance(recipe, cls)
        return recipe

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a recipe from a JSON document.

        Raises:
            InputError: not JSON, or not a recipe.
        """
        try:
            document = json.loads(text, parse_constant=tree.no_constants)
        except ValueError as error:
            raise InputError(f"not a JSON recipe: {error}") from None
        if not isinstance(document, dict):
            raise InputError(f"a recipe is a JSON object, not {type(document).__name__}")
        return cls.from_dict(document)

    @property
    def digest(self) -> str:
        """SHA-256 (64 hex digits) of everything that affects training: all but ``name`` and ``target``."""
        document = {key: value for key, value in tree.canonical(self).items() if key not in ("name", "target")}
        canonical = json.dumps({"format": FORMAT, **document}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    # -- changes ------------------------------------------------------------------------------------------------

    def _unknown_path(self, path: str) -> InputError:
        return unknown_name("recipe key", path, paths(self), fix=f"see them all: hotlap show {self.name} --json")

    def with_changes(self, changes: Mapping[str, Any], *, name: str | None = None) -> Self:
        """Return a new recipe with values replaced.

        Args:
            changes: dotted path → new value, e.g. ``{"optimizer.lr": 0.02, "model.widths.0": 24}``; a whole component
                may be replaced by a ``Component`` or by its JSON object.
            name: name of the new recipe; this one's when None.

        Raises:
            InputError: an unknown path (the nearest is suggested), or a value of the wrong type.
        """
        recipe: Any = self
        for path, value in changes.items():
            recipe = tree.replace(recipe, path.split("."), value, path, self._unknown_path)
        return typing.cast(Self, dataclasses.replace(recipe, name=name if name is not None else recipe.name))


def diff(before: Recipe, after: Recipe) -> tuple[Change, ...]:
    """List the differences that affect training or the target, in the recipe's own order (names are not compared)."""
    return tuple(c for c in tree.diff("", before, after) if c.path != "name")


def paths(recipe: Recipe) -> dict[str, Value]:
    """Return every dotted path that ``with_changes`` takes, with its present value; tuples of numbers are one leaf."""
    return dict(tree.leaves("", recipe))


def plain(value: Value) -> Any:
    """Return a value of a recipe as plain JSON types."""
    return tree.encode(value)


def parse_set(text: str) -> tuple[str, Any]:
    """Read one ``--set`` argument, ``path=value``; the value is JSON, or a bare word taken as a string.

    Raises:
        InputError: no ``=`` or an empty path.
    """
    path, equals, raw = text.partition("=")
    if not equals or not path.strip():
        raise InputError(f"--set takes path=value, not {text!r}", "for example --set optimizer.lr=0.02")
    try:
        value = json.loads(raw, parse_constant=tree.no_constants)
    except json.JSONDecodeError:
        value = raw.strip()
    return path.strip(), value


def _at_least(least: int, key: str, value: int) -> None:
    if value < least:
        raise InputError(f"{key} must be at least {least}, not {value}")
