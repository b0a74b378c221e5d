"""The figures of a set of runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from hotlap.errors import InputError
from hotlap.result import PHASES, TIMING_RULES, Run, Summary
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
        timing_rules: version of the rules that say what a time is; 0 where no time counts.
    """

    processor: str
    device: str
    threads: int
    backend: str
    precision: str
    data: str
    timing_rules: int

    def __str__(self) -> str:
        where = f"{self.device} ({self.processor})" if self.processor else self.device
        rules = f", timing rules {self.timing_rules}" if self.timing_rules not in (0, TIMING_RULES) else ""
        return f"{where}, {self.threads} threads, {self.backend}, {self.precision}, data {self.data[:8]}{rules}"


def machine_key(run: Run) -> MachineKey:
    """Return what a run's figures may be pooled by."""
    env = run.environment
    return MachineKey(
        env.gpu or env.cpu,
        run.device.partition(":")[0],
        env.threads,
        run.backend,
        run.precision,
        run.data_digest,
        run.timing_rules,
    )


def software(run: Run) -> tuple[str, str]:
    """Return the versions of hotlap and of torch; not the commit, for a set may go on from one to the next."""
    return run.environment.hotlap, run.environment.torch


def software_text(run: Run) -> str:
    """Name the versions of hotlap and of torch."""
    return "hotlap {}, torch {}".format(*software(run))


def set_text(run: Run, among: Sequence[Run]) -> str:
    """Name what a set of runs was made with.

    Args:
        run: one of the set.
        among: a run of every set that it is shown with; the software is named where they differ in it.
    """
    where = str(machine_key(run))
    return f"{where}, {software_text(run)}" if len(set(map(software, among))) > 1 else where


def one_of_each_seed(runs: Iterable[Run]) -> list[Run]:
    """Choose a run of each seed, for a seed that comes twice is no second observation; by seed.

    The newest stands for its seed: it is what the present source and machine give. But one whose time does not count
    gives way to one whose time does, and a success to a failure of the same commit, for a seed that is tried again
    until it succeeds is no evidence. That says nothing of the accuracies.

    Args:
        runs: of one recipe, with one software on one machine; those that began at the same time, oldest first.
    """
    by_seed: dict[int, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.began):
        by_seed.setdefault(run.seed, []).append(run)
    return [_standing(by_seed[seed]) for seed in sorted(by_seed)]


def _standing(runs: Sequence[Run]) -> Run:
    """Which of one seed's runs, oldest first, stands for it."""
    newest = [run for run in runs if run.timing_valid or run.status == "failed"] or runs
    commit = newest[-1].environment.commit
    failed = [run for run in runs if run.status == "failed" and run.environment.commit == commit]
    return failed[-1] if failed else newest[-1]


def group_runs(runs: Iterable[Run]) -> list[list[Run]]:
    """Split runs into the sets that are shown: of one recipe, data set and software, on one machine where times count.

    Returns:
        The sets in the order of their first run; runs keep their order.
    """
    runs = list(runs)
    timed = {run.recipe.digest for run in runs if run.timing_valid}
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        key = _key(run, timed=run.recipe.digest in timed)
        groups.setdefault((run.recipe.digest, key, software(run)), []).append(run)
    return list(groups.values())


def _key(run: Run, *, timed: bool) -> MachineKey:
    """Without a time that counts, as on a cluster, processors may differ: what is pooled is accuracies."""
    return machine_key(run) if timed else machine_key(run)._replace(processor="", timing_rules=0)


def summarise(runs: Sequence[Run]) -> Summary:
    """Summarise runs of one recipe on one machine.

    Accuracies come from finished runs; a failed run counts as missing the target. Times are the finished runs'
    too, whether or not they had the machine to themselves: ``timing_valid`` says if they may be claimed. The target
    is the newest run's, for a recipe's target is not part of its digest and may have moved.

    Versions of torch and hotlap may differ, as on a cluster or in a record that was made over months; ``group_runs``
    keeps them apart.

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
    newest = sorted(runs, key=lambda run: run.began)[-1]
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
