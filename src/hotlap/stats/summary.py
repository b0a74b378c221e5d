"""The figures of a set of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from hotlap.errors import InputError
from hotlap.result import PHASES, Run, Summary
from hotlap.stats.intervals import (
    mean,
    mean_interval,
    mean_lower_bound,
    median,
    median_interval,
    p_mean_below,
    standard_deviation,
)


class MachineKey(NamedTuple):
    """What runs of a recipe must share before their figures may be pooled; which of equal GPUs does not matter.

    Attributes:
        processor: model of the GPU, or of the processor.
        device: cpu or cuda.
        data: digest of the data set, which a recipe names only by its path.
    """

    processor: str
    device: str
    threads: int
    backend: str
    precision: str
    data: str

    def __str__(self) -> str:
        where = f"{self.device} ({self.processor})" if self.processor else self.device
        return f"{where}, {self.threads} threads, {self.backend}, {self.precision}, data {self.data[:8]}"


def machine_key(run: Run) -> MachineKey:
    """Return what a run's figures may be pooled by."""
    env = run.environment
    return MachineKey(
        env.gpu or env.cpu, run.device.partition(":")[0], env.threads, run.backend, run.precision, run.data_digest
    )


def group_runs(runs: Iterable[Run]) -> list[list[Run]]:
    """Split runs into sets that ``summarise`` takes: one recipe, one data set, one kind of machine where times count.

    Returns:
        The sets in the order of their first run; runs keep their order.
    """
    runs = list(runs)
    timed = {run.recipe.digest for run in runs if run.timing_valid}
    groups: dict[tuple[str, MachineKey], list[Run]] = {}
    for run in runs:
        key = _key(run, timed=run.recipe.digest in timed)
        groups.setdefault((run.recipe.digest, key), []).append(run)
    return list(groups.values())


def _key(run: Run, *, timed: bool) -> MachineKey:
    """Without a time that counts, as on a cluster, processors may differ: what is pooled is accuracies."""
    return machine_key(run) if timed else machine_key(run)._replace(processor="")


def summarise(runs: Sequence[Run]) -> Summary:
    """Summarise runs of one recipe on one machine.

    Accuracies come from finished runs; a failed run counts as missing the target. Times are the finished runs'
    too, whether or not they had the machine to themselves: ``timing_valid`` says if they may be claimed. The target
    is the newest run's, for a recipe's target is not part of its digest and may have moved.

    Raises:
        InputError: no runs, runs of several recipes, or of several kinds of machine or data sets; see ``MachineKey``.
    """
    if not runs:
        raise InputError("there are no runs to summarise", "make some with: hotlap train RECIPE --runs 10")
    if len(digests := {run.recipe.digest for run in runs}) > 1:
        raise InputError(f"a summary takes runs of one recipe, these are of {len(digests)}", "group them by digest")
    timed = any(run.timing_valid for run in runs)
    if len(machines := sorted({_key(run, timed=timed) for run in runs})) > 1:
        named = "; ".join(map(str, machines))
        raise InputError(
            f"runs of different machines or data cannot be pooled: {named}", "filter by device and threads"
        )
    newest = runs[-1]
    target = newest.recipe.target
    devices = {run.device for run in runs}
    done = [run for run in runs if run.status == "done" and run.accuracy is not None]
    accuracies = [run.accuracy for run in done if run.accuracy is not None]
    times = [run.certified_s for run in done]
    reached = sum(target is None or accuracy >= target for accuracy in accuracies)
    return Summary(
        recipe=newest.recipe.name,
        digest=newest.recipe.digest,
        n=len(done),
        failed=len(runs) - len(done),
        target=target,
        accuracy_mean=mean(accuracies),
        accuracy_std=standard_deviation(accuracies),
        accuracy_ci95=mean_interval(accuracies),
        accuracy_lower95=mean_lower_bound(accuracies),
        p_below_target=None if target is None else p_mean_below(accuracies, target),
        reached_share=reached / len(runs),
        certified_s_median=median(times),
        certified_s_ci95=median_interval(times),
        phases_s=_median_phases(done),
        epochs_median=median([run.epochs_run for run in done]),
        device=newest.device if len(devices) == 1 else machines[0].device,
        threads=machines[0].threads,
        backend=machines[0].backend,
        timing_valid=all(run.timing_valid for run in runs),
        stops_on_test=newest.recipe.stop_at is not None,
    )


def _median_phases(runs: Sequence[Run]) -> dict[str, float]:
    """Median seconds of each phase; empty without runs."""
    if not runs:
        return {}
    names = dict.fromkeys((*PHASES, *(name for run in runs for name in run.phases)))
    return {name: median([run.phases.get(name, 0.0) for run in runs]) or 0.0 for name in names}
