"""Results: what one training gave, where it ran, and sets of such runs. No torch here."""

from __future__ import annotations

import dataclasses
import math
import operator
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Self, SupportsIndex, TypeAlias

from hotlap.errors import InputError, unknown_name
from hotlap.recipe import Recipe

if TYPE_CHECKING:
    from hotlap.stats.pairs import Comparison

TIMING_RULES = 1
"""Version of the timing rules; a figure is comparable only with figures of the same version."""

PHASES = ("load", "warmup", "prepare", "train", "evaluate", "log")
"""Names of the clock's phases, in the order in which a run first enters them.

load: disk to memory. warmup: compilation and autotuning on dummy data. prepare: weights, moving, normalising, order.
train: optimizer steps. evaluate: every test evaluation that the recipe needs, the final one among them. log: the rest.
"""

POLICIES: Mapping[str, tuple[str, ...]] = {
    "certified": ("prepare", "train", "evaluate"),
    "notebook": ("train", "evaluate"),
    "dawnbench": ("prepare", "train"),
    "airbench": ("prepare", "train", "evaluate"),
}
"""Phases that count, by timing policy. certified is ours; the others are the conventions of published systems."""

CERTIFIED = "certified"

Backend: TypeAlias = Literal["auto", "torch", "native"]
"""What trains: PyTorch, the compiled kernels, or whichever of them is the faster that can."""


def check_seed(seed: SupportsIndex) -> int:
    """Return a seed as a plain whole number, one that a store can hold.

    Raises:
        InputError: it is none.
    """
    try:
        number = operator.index(seed)
    except TypeError:
        raise InputError(f"a seed is a whole number, not {seed!r}", "for example 0") from None
    if not 0 <= number < 2**63:
        raise InputError(f"a seed is from 0 to 2**63 - 1, not {number}", "for example 0")
    return number


def now() -> str:
    """Return the time of day in UTC, as runs keep it: fine enough for the order of runs that take milliseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a run happened; everything that may explain its time.

    Attributes:
        load_average: one-minute load average just before the run; None where the system has none.
        threads: threads torch used for one operation.
        commit: git commit of the package's source, with ``+`` when it was modified; None for an installed package.
        source: SHA-256 of the package's source files; None in runs of the first versions.
    """

    hotlap: str
    python: str
    torch: str
    platform: str
    cpu: str
    cores: int
    threads: int
    memory_gb: float
    gpu: str | None = None
    commit: str | None = None
    load_average: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training of one recipe with one seed.

    Attributes:
        status: ``done``; ``failed`` when the loss stopped being a number.
        accuracy: share of test images classified correctly at the end (0–1); None when the run failed.
        accuracy_by_epoch: (epochs passed, accuracy) wherever it was measured.
        loss_by_epoch: mean training loss of each epoch begun; images that a recipe's selection leaves out count as 0.
        phases: seconds by phase, every phase of ``PHASES``.
        timing_valid: False when the run shared the machine; then it carries accuracy claims only.
        precision: what it was computed in; a recipe may leave that to the device.
        seeds_at_once: seeds that were trained in one program; the phases then hold this run's share of its time.
        contention: cores that other processes kept busy while the run lasted; None where that cannot be known.
        started_at: when it began, in UTC and ISO 8601; runs of the first versions have whole seconds.
        module: the trained network; only on runs made in this process, never stored.
    """

    recipe: Recipe
    seed: int
    status: Literal["done", "failed"]
    accuracy: float | None
    epochs_run: float
    steps: int
    phases: Mapping[str, float]
    device: str
    backend: str
    environment: Environment
    timing_valid: bool
    data_digest: str
    accuracy_by_epoch: tuple[tuple[float, float], ...] = ()
    loss_by_epoch: tuple[float, ...] = ()
    error: str | None = None
    precision: str = "fp32"
    seeds_at_once: int = 1
    contention: float | None = None
    timing_rules: int = TIMING_RULES
    started_at: str = field(default_factory=now)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    module: Any = field(default=None, repr=False, compare=False)

    def seconds(self, policy: str = CERTIFIED) -> float:
        """Time in seconds under a timing policy (a key of ``POLICIES``).

        Raises:
            InputError: no such policy.
        """
        if policy not in POLICIES:
            raise unknown_name("timing policy", policy, POLICIES)
        return sum(self.phases[name] for name in POLICIES[policy])

    @property
    def began(self) -> datetime:
        """When it began; ``started_at`` is UTC where it names no zone."""
        moment = datetime.fromisoformat(self.started_at)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)

    @property
    def certified_s(self) -> float:
        """Seconds of prepare + train + evaluate."""
        return self.seconds(CERTIFIED)

    @property
    def reached(self) -> bool:
        """Whether the run ended at or above its recipe's target; a failed run did not."""
        target = self.recipe.target
        return self.accuracy is not None and (target is None or self.accuracy >= target)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; the trained module is left out."""
        document = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "module"}
        document["recipe"] = self.recipe.to_dict()
        document["digest"] = self.recipe.digest
        document["environment"] = dataclasses.asdict(self.environment)
        document["phases"] = dict(self.phases)
        document["certified_s"] = self.certified_s
        document["accuracy_by_epoch"] = [list(pair) for pair in self.accuracy_by_epoch]
        # JSON has no NaN, which is what a failed run's last loss is.
        document["loss_by_epoch"] = [loss if math.isfinite(loss) else None for loss in self.loss_by_epoch]
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what ``to_dict`` wrote; derived keys are ignored. The recipe may be given ready-made.

        Raises:
            InputError: it is no mapping, a key is missing, a phase that counts has no seconds, or it began at no date.
        """
        if not isinstance(document, Mapping):
            raise InputError(f"a stored run is a JSON object, not {document!r:.40}")
        names = {f.name for f in dataclasses.fields(cls)} - {"module"}
        values = {key: value for key, value in document.items() if key in names}
        required = {f.name for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING}
        if missing := required - values.keys():
            raise InputError(f"a stored run lacks {', '.join(sorted(missing))}")
        phases = values["phases"] if isinstance(values["phases"], Mapping) else {}
        if absent := [name for name in POLICIES[CERTIFIED] if not isinstance(phases.get(name), int | float)]:
            raise InputError(f"a stored run lacks the seconds of {', '.join(absent)}")
        if not isinstance(values["recipe"], Recipe):
            values["recipe"] = Recipe.from_dict(values["recipe"])
        known = {f.name for f in dataclasses.fields(Environment)}
        values["environment"] = Environment(**{k: v for k, v in values["environment"].items() if k in known})
        values["accuracy_by_epoch"] = tuple((e, a) for e, a in values.get("accuracy_by_epoch", ()))
        losses = values.get("loss_by_epoch", ())
        values["loss_by_epoch"] = tuple(math.nan if loss is None else loss for loss in losses)
        run = cls(**values)
        try:
            _ = run.began
        except (ValueError, TypeError, OverflowError):
            raise InputError(f"a stored run began at {run.started_at!r}, which is no date and time") from None
        return run


@dataclass(frozen=True)
class RunSet(Sequence[Run]):
    """Runs of one recipe on one machine, in the order in which they were made."""

    runs: tuple[Run, ...]

    def __post_init__(self) -> None:
        digests = {run.recipe.digest for run in self.runs}
        if len(digests) > 1:
            raise InputError(f"a run set holds one recipe, these are {len(digests)}", "group them by digest")

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: Any) -> Any:
        return self.runs[index]

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    @property
    def recipe(self) -> Recipe:
        """The recipe of the set.

        Raises:
            InputError: the set is empty.
        """
        if not self.runs:
            raise InputError("an empty run set has no recipe")
        return self.runs[0].recipe

    def summary(self) -> Summary:
        """Accuracy, share at target and certified time, with 95 % intervals."""
        from hotlap.stats.summary import summarise

        return summarise(self.runs)

    def to_frame(self) -> Any:
        """One row per run as a pandas data frame (needs the ``frame`` extra).

        Raises:
            InputError: pandas is not installed.
        """
        from hotlap.report.frames import runs_frame

        return runs_frame(self.runs)

    def __rich__(self) -> Any:
        from hotlap.report.tables import run_set_table

        return run_set_table(self.runs)

    def _repr_html_(self) -> str:
        from hotlap.report.tables import run_set_html

        return run_set_html(self.runs)


@dataclass(frozen=True)
class RunPairs:
    """Runs of two recipes, made in turn: ``a[i]`` and ``b[i]`` have one seed and ran next to each other.

    Attributes:
        a: the baseline's runs.
        b: the candidate's runs.
        alpha: error rate, where the comparison was looked at after every pair; None for a number of pairs fixed before.
    """

    a: RunSet
    b: RunSet
    alpha: float | None = None

    def figures(self) -> Comparison:
        """Difference of mean accuracy and ratio of certified times, with their intervals."""
        from hotlap.stats.pairs import compare_runs

        return compare_runs(self.a, self.b, alpha=self.alpha)

    def sentence(self) -> str:
        """Write the outcome as one sentence that can be quoted.

        Raises:
            InputError: no pair of runs finished.
        """
        from hotlap.report.comparison_table import quotable

        return quotable(self.figures())

    def __rich__(self) -> Any:
        from hotlap.report.comparison_table import comparison_table

        return comparison_table((self.a.recipe.name, self.b.recipe.name), self.figures())


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Figures of a run set; accuracies are fractions, times are seconds, intervals are 95 %.

    Attributes:
        n: finished runs; failed ones are counted in ``failed`` and miss the target.
        accuracy_ci95: Student's t interval of the mean; None for fewer than two runs, or than six that are all equal.
        accuracy_lower95: one-sided 95 % lower bound of the mean; None as ``accuracy_ci95``.
        p_below_target: one-sided p-value against "the mean is below the target"; None as ``accuracy_ci95``, or without
            target.
        reached_share: share of all runs, failed ones included, at or above the target.
        certified_s_ci95: interval of the median (``stats.median_interval``); None for fewer than three runs.
        timing_valid: whether every run had the machine to itself.
        stops_on_test: the recipe stops on test accuracy, so its accuracy is optimistic by construction.
    """

    recipe: str
    digest: str
    n: int
    failed: int
    target: float | None
    accuracy_mean: float | None
    accuracy_std: float | None
    accuracy_ci95: tuple[float, float] | None
    accuracy_lower95: float | None
    p_below_target: float | None
    reached_share: float
    certified_s_median: float | None
    certified_s_ci95: tuple[float, float] | None
    phases_s: Mapping[str, float]
    epochs_median: float | None
    device: str
    threads: int
    backend: str
    timing_valid: bool
    stops_on_test: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        document = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        document["phases_s"] = dict(self.phases_s)
        for key in ("accuracy_ci95", "certified_s_ci95"):
            document[key] = list(document[key]) if document[key] is not None else None
        return document
