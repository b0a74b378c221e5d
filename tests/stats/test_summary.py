from __future__ import annotations

import statistics
import subprocess
import sys
from dataclasses import replace

import pytest

from factories import make_environment, make_recipe, make_run, make_runs
from hotlap.errors import InputError
from hotlap.result import PHASES, Run, RunSet
from hotlap.stats import group_runs, mean_interval, mean_lower_bound, median_interval, p_mean_below, summarise
from hotlap.stats.summary import one_of_each_seed, set_text


def test_figures_of_a_run_set() -> None:
    runs = make_runs(30)
    accuracies = [run.accuracy for run in runs if run.accuracy is not None]
    times = [run.certified_s for run in runs]
    summary = RunSet(tuple(runs)).summary()
    assert summary == summarise(runs)
    assert (summary.recipe, summary.digest) == ("mnist/tiny", make_recipe().digest)
    assert (summary.n, summary.failed, summary.target) == (30, 0, 0.99)
    assert summary.accuracy_mean == pytest.approx(statistics.mean(accuracies))
    assert summary.accuracy_std == pytest.approx(statistics.stdev(accuracies))
    assert summary.accuracy_ci95 == mean_interval(accuracies)
    assert summary.accuracy_lower95 == mean_lower_bound(accuracies)
    assert summary.p_below_target == p_mean_below(accuracies, 0.99)
    assert summary.reached_share == sum(accuracy >= 0.99 for accuracy in accuracies) / 30
    assert summary.certified_s_median == statistics.median(times)
    assert summary.certified_s_ci95 == median_interval(times)
    assert set(summary.phases_s) == set(PHASES)
    assert summary.phases_s["train"] == pytest.approx(statistics.median(times) / 2)
    assert (summary.epochs_median, summary.device, summary.threads, summary.backend) == (1.0, "cpu", 2, "eager")
    assert summary.timing_valid
    assert not summary.stops_on_test


def test_a_failed_run_misses_the_target_and_gives_no_time() -> None:
    summary = summarise([make_run(seed=0), make_run(seed=1, accuracy=None, certified_s=1.0)])
    assert (summary.n, summary.failed, summary.reached_share) == (1, 1, 0.5)
    assert summary.certified_s_median == 15.0
    assert (summary.accuracy_mean, summary.accuracy_ci95) == (0.991, None)


def test_only_failed_runs() -> None:
    summary = summarise([make_run(accuracy=None)])
    assert (summary.n, summary.failed, summary.reached_share) == (0, 1, 0.0)
    assert summary.accuracy_mean is summary.certified_s_median is summary.epochs_median is None
    assert summary.phases_s == {}


def test_few_runs_have_no_intervals() -> None:
    one = summarise([make_run()])
    assert (one.accuracy_std, one.accuracy_ci95, one.accuracy_lower95, one.p_below_target) == (None,) * 4
    assert one.certified_s_ci95 is None
    two = summarise([make_run(seed=0, accuracy=0.99), make_run(seed=1, accuracy=0.992)])
    assert two.accuracy_ci95 is not None
    assert two.certified_s_ci95 is None


def test_without_a_target_every_finished_run_counts() -> None:
    summary = summarise([make_run(seed=seed, recipe=make_recipe(target=None)) for seed in range(3)])
    assert (summary.target, summary.p_below_target, summary.reached_share) == (None, None, 1.0)


def test_a_target_that_moved_is_the_newest_runs() -> None:
    runs = [make_run(accuracy=0.991), make_run(accuracy=0.993, recipe=make_recipe(target=0.992))]
    assert (summarise(runs).target, summarise(runs).reached_share) == (0.992, 0.5)
    assert summarise(runs[::-1]).reached_share == 1.0


def test_marks() -> None:
    shared = [make_run(seed=0), make_run(seed=1, timing_valid=False)]
    assert not summarise(shared).timing_valid
    assert summarise([make_run(recipe=make_recipe(stop_at=0.99))]).stops_on_test


def test_what_cannot_be_pooled_is_refused() -> None:
    with pytest.raises(InputError, match="no runs"):
        summarise([])
    with pytest.raises(InputError, match="one recipe, these are of 2"):
        summarise([make_run(), make_run(recipe=make_recipe(batch_size=128))])
    with pytest.raises(InputError, match=r"Example CPU\), 2 threads, eager, .*; cpu \(Example CPU\), 4 threads, eager"):
        summarise([make_run(), make_run(threads=4)])


def test_group_runs_makes_sets_that_can_be_summarised() -> None:
    runs = [make_run(seed=0), make_run(seed=1, threads=4), make_run(seed=2, device="cuda:0"), make_run(seed=3)]
    groups = group_runs(runs)
    assert [[run.seed for run in group] for group in groups] == [[0, 3], [1], [2]]
    assert [summarise(group).n for group in groups] == [2, 1, 1]
    assert group_runs([]) == []


@pytest.mark.parametrize("module", ["hotlap.stats", "hotlap.store", "hotlap.report", "hotlap.report.tables"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    heavy = ("torch", "numpy", "scipy", "pandas", "matplotlib", "rich")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


def test_equal_gpus_are_one_machine_and_other_processors_or_data_are_not() -> None:
    gpu = make_environment(gpu="Example GPU")
    runs = [make_run(seed=k, device=f"cuda:{k}", environment=gpu) for k in range(2)]
    assert summarise(runs).device == "cuda"
    assert summarise(runs[:1]).device == "cuda:0"
    elsewhere = make_run(seed=1, environment=make_environment(cpu="Another CPU"), timing_valid=False)
    untimed = [make_run(timing_valid=False), elsewhere]
    assert len(group_runs(untimed)) == 1 and summarise(untimed).n == 2
    first = make_run()
    for other in (
        make_run(seed=1, environment=make_environment(cpu="Another CPU")),
        make_run(seed=1, data_digest="f" * 64),
        make_run(seed=1, precision="bf16"),
    ):
        assert len(group_runs([first, other])) == 2
        with pytest.raises(InputError, match="different machines or data"):
            summarise([first, other])


def test_another_software_is_another_set() -> None:
    newer, changed = make_environment(torch="2.14.0"), make_environment(hotlap="0.2.0")
    runs = [make_run(), make_run(environment=newer), make_run(environment=changed), make_run(seed=1)]
    groups = group_runs(runs)
    assert [[run.seed for run in group] for group in groups] == [[0, 1], [0], [0]]
    among = [group[0] for group in groups]
    assert [set_text(run, among).rpartition("data dddddddd")[2] for run in among] == [
        ", hotlap 0.1.0, torch 2.13.0",
        ", hotlap 0.1.0, torch 2.14.0",
        ", hotlap 0.2.0, torch 2.13.0",
    ]
    assert "torch" not in set_text(runs[0], among[:1])
    # A record may go on over versions; it says which they are.
    assert summarise([runs[0], make_run(seed=2, environment=newer)]).n == 2


def test_times_of_other_rules_are_not_pooled() -> None:
    runs = [make_run(), make_run(seed=1, timing_rules=7)]
    assert len(group_runs(runs)) == 2
    with pytest.raises(InputError, match=r"cannot be pooled: .*, timing rules 7"):
        summarise(runs)
    untimed = [make_run(timing_valid=False), make_run(seed=1, timing_rules=7, timing_valid=False)]
    assert len(group_runs(untimed)) == 1 and summarise(untimed).n == 2


def test_of_a_repeated_seed_the_newest_run_counts_whose_time_counts() -> None:
    def at(minute: int, **changes: object) -> Run:
        return make_run(started_at=f"2026-01-01T00:{minute:02d}:00.5+00:00", **changes)  # type: ignore[arg-type]

    first, last = at(0, certified_s=20.0), at(2)
    shared, other = at(3, timing_valid=False), at(1, seed=7)
    assert one_of_each_seed([other, shared, last, first]) == [last, other]
    assert one_of_each_seed([shared]) == [shared]
    # Trying again until it succeeds is no evidence; with another source it is another attempt.
    failed, mended = at(1, accuracy=None), at(4, environment=make_environment(commit="c"))
    assert one_of_each_seed([first, failed, last]) == [failed]
    assert one_of_each_seed([failed, mended]) == [mended]
    assert one_of_each_seed([mended, at(5, accuracy=None, timing_valid=False)])[0].status == "failed"
    # Of one moment, the one that was stored last.
    same = [at(0, certified_s=second) for second in (1.0, 2.0)]
    assert one_of_each_seed(same) == [same[1]]


def test_the_target_is_that_of_the_newest_run_in_any_order() -> None:
    old, new = make_run(seed=9), make_run(seed=3, recipe=make_recipe(target=0.995))
    new = replace(new, started_at="2027-01-01T00:00:00+00:00")
    assert summarise([new, old]).target == summarise([old, new]).target == 0.995
