"""What a search found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hotlap.recipe import Change, Recipe, Value, plain
from hotlap.stats.intervals import Interval, mean, mean_interval
from hotlap.tune.validation import HoldOut


class Measured:
    """Figures of what has ``accuracies`` (0–1) by seed; None stands for a run that failed."""

    accuracies: dict[int, float | None]

    @property
    def finite(self) -> list[float]:
        """Accuracies of the runs that did not fail."""
        return [accuracy for accuracy in self.accuracies.values() if accuracy is not None]

    @property
    def n(self) -> int:
        """How many runs finished."""
        return len(self.finite)

    @property
    def mean(self) -> float | None:
        """Mean accuracy; None without a finished run."""
        return mean(self.finite) if self.finite else None

    @property
    def ci95(self) -> Interval | None:
        """95 % interval of the mean; None for fewer than two runs, or than six that are all equal."""
        return mean_interval(self.finite)

    def figures(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "n": self.n,
            "mean": self.mean,
            "ci95": None if self.ci95 is None else list(self.ci95),
            "accuracies": [[seed, accuracy] for seed, accuracy in self.accuracies.items()],
        }


@dataclass(frozen=True, kw_only=True)
class Tried(Measured):
    """One point of the space and the validation accuracies it gave.

    Attributes:
        number: of the Optuna trial.
        values: of every parameter, by path.
        changes: from the recipe that was given, its epochs too where they follow from the values; none for the
            baseline.
        epochs: that followed from the values; None where the search leaves them alone, or the point cannot be built.
        dropped: why it was given up before all its seeds had run; None for one that has them all.
        accuracies: by seed; None for a run that failed.
    """

    number: int
    values: dict[str, Value]
    changes: tuple[Change, ...]
    epochs: float | None = None
    dropped: str | None
    accuracies: dict[int, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "trial": self.number,
            "values": {path: plain(value) for path, value in self.values.items()},
            "epochs": self.epochs,
            "dropped": self.dropped,
            **self.figures(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """The outcome of a study. All accuracies are of held-out training images.

    Attributes:
        recipe: the best one, on the data set itself; whatever is measured with it is the first look at the test set.
        study: name of the study.
        sampler: how it was searched.
        seeds: with which every point was to be trained.
        hold_out: which training images the search was measured on.
        equal_flop: whether every point trained with as many FLOP as the recipe as it was given.
        trials: every point that was tried, the recipe as it was given first.
        best: the point with the highest mean; being the highest of many, that mean is a little flattered.
        at_end: parameters whose best value is an end of its range, so that a better one may lie beyond.
        complete: False when the time ran out before the search had ended.
        runs_trained: in this call.
        runs_reused: found in the store of runs by this call.
    """

    recipe: Recipe
    study: str
    sampler: Literal["coordinate", "tpe", "random"]
    seeds: tuple[int, ...]
    hold_out: HoldOut
    equal_flop: bool
    trials: tuple[Tried, ...]
    best: Tried
    at_end: tuple[str, ...]
    complete: bool
    runs_trained: int
    runs_reused: int

    @property
    def baseline(self) -> Tried:
        """The recipe as it was given."""
        return self.trials[0]

    @property
    def dropped(self) -> Sequence[Tried]:
        """The points that were given up early."""
        return [tried for tried in self.trials if tried.dropped is not None]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "recipe": self.recipe.to_dict(),
            "digest": self.recipe.digest,
            "study": self.study,
            "sampler": self.sampler,
            "seeds": list(self.seeds),
            "hold_out": {"images": self.hold_out.images, "seed": self.hold_out.seed},
            "equal_flop": self.equal_flop,
            "changes": [
                {"path": c.path, "before": plain(c.before), "after": plain(c.after)} for c in self.best.changes
            ],
            "best": self.best.to_dict(),
            "baseline": self.baseline.to_dict(),
            "trials": [tried.to_dict() for tried in self.trials],
            "dropped": len(self.dropped),
            "at_end": list(self.at_end),
            "complete": self.complete,
            "runs_trained": self.runs_trained,
            "runs_reused": self.runs_reused,
        }
