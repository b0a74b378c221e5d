"""What a saved model says of itself: the metadata in the header of its file, as text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import hotlap
from hotlap.errors import HotlapError, InputError
from hotlap.recipe import Recipe

FORMAT = 1
"""Version of the file's format; a reader refuses newer ones."""

_KEYS = (
    *("format", "hotlap", "recipe", "image_shape", "classes", "mean", "std"),
    *("precision", "seed", "accuracy", "data_digest"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Everything about a trained network but its weights.

    Attributes:
        recipe: what it was trained with.
        shape: (C, H, W) of one image.
        classes: names of the classes, in the order of the network's outputs.
        mean: per-channel mean that was subtracted from pixels scaled to 0–1.
        std: per-channel divisor after the mean.
        precision: what it was trained in: ``fp32``, ``bf16`` or ``fp16``.
        seed: of the run.
        accuracy: of the run, on its test set (0–1); None where it was trained without one.
        data_digest: SHA-256 of the data set.
        hotlap: version that saved it.
    """

    recipe: Recipe
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    seed: int
    accuracy: float | None
    data_digest: str
    hotlap: str = hotlap.__version__

    def to_metadata(self) -> dict[str, str]:
        """Return what goes into the header."""
        return {
            "format": str(FORMAT),
            "hotlap": self.hotlap,
            "recipe": self.recipe.to_json(),
            "image_shape": json.dumps(self.shape),
            "classes": _text(self.classes),
            "mean": json.dumps(self.mean),
            "std": json.dumps(self.std),
            "precision": self.precision,
            "seed": str(self.seed),
            "accuracy": json.dumps(self.accuracy),
            "data_digest": self.data_digest,
        }

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str], name: str) -> Self:
        """Read what ``to_metadata`` wrote.

        Args:
            metadata: of the file.
            name: of the file, for errors.

        Raises:
            InputError: something is missing or cannot be read, or the format is newer.
        """
        if "format" not in metadata:
            raise InputError(f"{name} is no model of hotlap's: its header does not say so", _MAKE_ONE)
        if not metadata["format"].isdecimal() or int(metadata["format"]) > FORMAT:
            raise InputError(
                f"{name} has model format {metadata['format'][:20]!r}, this hotlap reads up to {FORMAT}",
                "upgrade hotlap",
            )
        if missing := [key for key in _KEYS if key not in metadata]:
            raise InputError(f"the header of {name} lacks {', '.join(missing)}", _MAKE_ONE)
        try:
            recipe = Recipe.from_json(metadata["recipe"])
        except HotlapError as error:
            fix = "it may come from another version: upgrade hotlap" if error.fix is None else error.fix
            raise InputError(f"the recipe in {name} cannot be used: {error.cause}", fix) from None
        try:
            return cls(
                recipe=recipe,
                shape=_shape(json.loads(metadata["image_shape"])),
                classes=_classes(json.loads(metadata["classes"])),
                mean=_numbers(json.loads(metadata["mean"])),
                std=_numbers(json.loads(metadata["std"])),
                precision=_precision(metadata["precision"]),
                seed=int(metadata["seed"]),
                accuracy=_accuracy(json.loads(metadata["accuracy"])),
                data_digest=metadata["data_digest"],
                hotlap=metadata["hotlap"],
            )._checked()
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"the header of {name} is damaged: {error}", _MAKE_ONE) from None

    def _checked(self) -> Self:
        if not len(self.mean) == len(self.std) == self.shape[0] or min(self.std) <= 0:
            raise ValueError("mean and std do not fit the channels")
        return self


_MAKE_ONE = "make one: hotlap train RECIPE --save FILE"


def _text(names: tuple[str, ...]) -> str:
    """Names as JSON that is Unicode: those of folders need not be, and are escaped then."""
    text = json.dumps(names, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(names)
    return text


def _shape(value: Any) -> tuple[int, int, int]:
    if not (isinstance(value, list) and len(value) == 3 and all(type(n) is int and 0 < n < 65_536 for n in value)):
        raise ValueError("image_shape is not three sizes")
    return value[0], value[1], value[2]


def _classes(value: Any) -> tuple[str, ...]:
    if not (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        raise ValueError("classes are not names")
    return tuple(value)


def _numbers(value: Any) -> tuple[float, ...]:
    if not (isinstance(value, list) and value and all(type(n) in (int, float) and math.isfinite(n) for n in value)):
        raise ValueError("mean or std are not numbers")
    return tuple(map(float, value))


def _precision(value: str) -> str:
    if value not in ("fp32", "bf16", "fp16"):
        raise ValueError(f"precision {value[:20]!r} is not known")
    return value


def _accuracy(value: Any) -> float | None:
    if value is not None and not (type(value) in (int, float) and 0 <= value <= 1):
        raise ValueError("accuracy is not a share")
    return None if value is None else float(value)
