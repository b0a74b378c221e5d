from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tune_helpers import SMALL, FormulaSession, SeveralWorkers, small

from hotlap import datasets
from hotlap.bench.executors import Job
from hotlap.bench.session import Session
from hotlap.datasets.base import image_data
from hotlap.datasets.held_out import held_out
from hotlap.datasets.spec import Built, OwnSet
from hotlap.datasets.synthetic import DATASET as SYNTHETIC_SET
from hotlap.errors import DivergenceError, HotlapError, InputError, StoreError
from hotlap.recipe import Recipe, part
from hotlap.store import Store
from hotlap.tune import check_installed
from hotlap.tune.defaults import parse_parameter
from hotlap.tune.figures import write_figures
from hotlap.tune.pace import Pace
from hotlap.tune.result import TuneResult
from hotlap.tune.storage import open_study
from hotlap.tune.study import tune
from hotlap.tune.tables import result_lines, trials_table
from hotlap.tune.validation import HoldOut, choose_hold_out, ensure_held_out, validation_recipe

LR = "optimizer.lr=log:1e-3..1e-1"
BETA = "optimizer.betas.0=0.5..0.95"
FEW = "optimizer.lr=0.001,0.02,0.1"


def hill(recipe: Recipe) -> float:
    lr, (beta, _) = recipe.optimizer.options["lr"], recipe.optimizer.options["betas"]
    return 0.9 - 0.02 * math.log(lr / 0.02) ** 2 - (beta - 0.65) ** 2


def search(session: Session, *params: str, recipe: Recipe | None = None, **options: object) -> TuneResult:
    recipe = recipe or small(optimizer__lr=0.001)
    space = [parse_parameter(text, recipe) for text in params or (LR, BETA)]
    return tune(recipe, space, session=session, **options)  # type: ignore[arg-type]


@pytest.fixture
def store(own_store: Path) -> Iterator[Store]:
    with Store() as opened:
        yield opened


def outcome(result: TuneResult) -> object:
    return result.recipe, [(t.values, t.dropped, t.accuracies) for t in result.trials]


def test_the_ascent_finds_the_best_values_and_says_what_they_are() -> None:
    session = FormulaSession(hill, deviation=0.0005)
    told: list[str] = []
    result = search(session, say=told.append)
    assert result.baseline.values == {"optimizer.lr": 0.001, "optimizer.betas.0": 0.9}
    assert result.baseline.changes == ()
    assert 0.015 < float(result.best.values["optimizer.lr"]) < 0.027  # type: ignore[arg-type]
    assert 0.6 <= float(result.best.values["optimizer.betas.0"]) <= 0.7  # type: ignore[arg-type]
    assert result.best.mean > result.baseline.mean  # type: ignore[operator]
    assert result.best.n == 3
    assert result.recipe.name == "tiny tuned"
    assert result.recipe.data == SMALL
    assert result.recipe.optimizer.options["lr"] == result.best.values["optimizer.lr"]
    assert result.complete
    assert result.dropped
    assert all(2 <= len(t.accuracies) < 3 and "worse than the best, p = " in str(t.dropped) for t in result.dropped)
    assert result.runs_trained == len(session.trained)
    assert len(told) == len(result.trials)
    assert {job.recipe.data.name for job in session.trained} == {"held-out"}
    assert {job.seed for job in session.trained} == {0, 1, 2}


def test_the_same_again_trains_nothing_and_gives_the_same(store: Store) -> None:
    first = search(FormulaSession(hill, deviation=0.001, store=store), LR, sweeps=1)
    assert first.runs_trained == len(store)
    session = FormulaSession(hill, deviation=0.001, store=store)
    again = search(session, LR, sweeps=1)
    assert not session.trained
    assert outcome(again) == outcome(first)
    # Another study of the same question takes its runs from the store.
    other = search(session, LR, sweeps=1, name="other")
    assert not session.trained
    assert other.runs_reused == first.runs_trained
    assert outcome(other) == outcome(first)


class Killed(BaseException):
    """Stands for a process that is killed: nothing is told, nothing is cleaned up."""


class Mortal(FormulaSession):
    lives = 0

    def train(self, recipe: Recipe, seed: int):  # type: ignore[no-untyped-def]
        self.lives -= 1
        if self.lives < 0:
            raise Killed
        return super().train(recipe, seed)


@pytest.mark.parametrize(("sampler", "seeds"), [("coordinate", 3), ("tpe", 2)])
def test_a_study_that_is_killed_again_and_again_ends_as_an_unbroken_one(
    tmp_path: Path, sampler: str, seeds: int
) -> None:
    options = {"sampler": sampler, "trials": 12 if sampler == "tpe" else 8, "seeds": tuple(range(seeds))}
    with Store(tmp_path / "a" / "runs.sqlite") as one:
        unbroken = search(FormulaSession(hill, deviation=0.002, store=one), **options)
    with Store(tmp_path / "b" / "runs.sqlite") as two:
        result = None
        while result is None:
            session = Mortal(hill, deviation=0.002, store=two)
            session.lives = 9
            try:
                result = search(session, **options)
            except Killed:
                continue
        keys = [(run.recipe.digest, run.seed) for run in two.runs()]
        assert len(set(keys)) == len(keys)
    assert outcome(result) == outcome(unbroken)


@pytest.mark.parametrize("sampler", ["coordinate", "tpe", "random"])
@pytest.mark.parametrize("workers", [2, 7])
def test_several_workers_are_kept_busy_and_train_nothing_twice(sampler: str, workers: int) -> None:
    session = FormulaSession(hill, deviation=0.0005)
    executor = SeveralWorkers(session, workers)
    result = search(session, executor=executor, sampler=sampler, trials=30)
    keys = [job.key for job in session.trained]
    assert len(set(keys)) == len(keys)
    assert executor.most_in_flight == workers
    assert result.trials[0].changes == ()
    assert all(t.dropped or set(t.accuracies) == {0, 1, 2} for t in result.trials)
    if sampler == "coordinate":
        assert 0.015 < float(result.best.values["optimizer.lr"]) < 0.027  # type: ignore[arg-type]
    else:
        assert len(result.trials) == 30


def test_equal_points_share_their_runs() -> None:
    session = FormulaSession(hill)
    executor = SeveralWorkers(session, 6)
    result = search(session, "optimizer.lr=0.001,0.01", sampler="random", trials=12, executor=executor)
    assert len(result.trials) == 12
    assert len(session.trained) == len({job.key for job in session.trained}) <= 6


def test_a_point_that_fails_or_cannot_be_built_is_dropped_and_the_search_goes_on() -> None:
    def formula(recipe: Recipe) -> float | None:
        return None if recipe.optimizer.options["lr"] in (0.001, 0.1) else hill(recipe)

    result = search(FormulaSession(formula), LR)
    assert result.baseline.dropped == "seed 0 failed: the loss became nan at step 17"
    assert result.baseline.mean is None
    assert list(result.baseline.accuracies.values()) == [None]
    assert result.best.values["optimizer.lr"] == pytest.approx(0.02, rel=0.2)
    assert "dropped, seed 0 failed" in " ".join(result_lines(result))
    # Each end of both can be built, but not every pair of them.
    knots = part("piecewise", epochs=(0.2, 0.5), factors=(1.0, 0.5))
    recipe = small(schedule=knots)
    pairs = ("schedule.epochs.0=0.2,0.4", "schedule.epochs.1=0.3,0.5")
    result = search(FormulaSession(lambda r: r.schedule.options["epochs"][0]), *pairs, recipe=recipe)
    assert result.best.values == {"schedule.epochs.0": 0.4, "schedule.epochs.1": 0.5}
    assert [str(t.dropped)[:15] for t in result.dropped] == ["cannot be built"]


class TooLarge(FormulaSession):
    """Has too little memory for some recipes."""

    large: tuple[float, ...] = (0.1,)

    def train(self, recipe: Recipe, seed: int):  # type: ignore[no-untyped-def]
        if recipe.optimizer.options["lr"] in self.large:
            raise InputError(f"the GPU has too little memory for {recipe.name}", "--set batch_size=8")
        return super().train(recipe, seed)


@pytest.mark.parametrize("workers", [0, 1, 4])
@pytest.mark.parametrize("sampler", ["coordinate", "random"])
def test_a_point_that_cannot_be_trained_is_dropped_and_the_search_goes_on(
    store: Store, workers: int, sampler: str
) -> None:
    session = TooLarge(hill, deviation=0.0005, store=store)
    options: dict[str, object] = {"sampler": sampler, "trials": 8}
    if workers:
        options["executor"] = SeveralWorkers(session, workers)
    result = search(session, FEW, **options)
    reasons = {t.dropped for t in result.trials if t.values["optimizer.lr"] == 0.1}
    name = "tiny [optimizer.lr=0.1]"
    assert reasons == {f"cannot be trained: the GPU has too little memory for {name}"}
    assert result.best.values["optimizer.lr"] == 0.02
    assert result.complete
    keys = [(run.recipe.digest, run.seed) for run in store.runs()]
    assert len(set(keys)) == len(keys)
    before = len(store)
    assert outcome(search(session, FEW, **options)) == outcome(result), "the same command does not stumble again"
    assert len(store) == before


def test_a_recipe_that_cannot_be_trained_as_it_was_given_is_no_study(store: Store) -> None:
    session = TooLarge(hill, store=store)
    session.large = (0.001,)
    with pytest.raises(InputError, match="too little memory for tiny → --set batch_size=8"):
        search(session, FEW)
    session.large = ()
    assert search(session, FEW).baseline.dropped is None, "nothing was held against it"


def test_batches_larger_than_the_training_set_are_dropped_where_the_last_partial_one_is(store: Store) -> None:
    recipe = small(batch_size=32, feed__drop_last=True)
    session = FormulaSession(lambda r: 0.5 + r.batch_size / 1000, store=store)
    result = search(session, "batch_size=32,64,128", recipe=recipe)
    assert result.best.values == {"batch_size": 64}
    [dropped] = result.dropped
    assert dropped.dropped is not None
    assert "has 100 training images, less than one batch of 128" in dropped.dropped
    with pytest.raises(InputError, match="less than one batch of 128"):
        search(session, LR, recipe=small(batch_size=128, feed__drop_last=True))


def test_stored_runs_of_either_backend_count_unless_one_is_asked_for(store: Store) -> None:
    there = FormulaSession(hill, store=store)
    there.backend = "torch"
    search(there, FEW)
    here = FormulaSession(hill, store=store)
    result = search(here, FEW, name="again")
    assert not here.trained
    assert result.runs_reused == len(there.trained)
    runs = [replace(run, id=f"{run.id}-", backend="native") for run in store.runs()]
    with Store(store.path.with_name("native.sqlite")) as other:
        for run in runs:
            other.add(run)
        asked = FormulaSession(hill, store=other)
        asked.backend = "torch"
        search(asked, FEW, name="asked")
        assert len(asked.trained) == len(there.trained)


def test_runs_that_would_stop_at_an_accuracy_train_to_their_end() -> None:
    session, told = FormulaSession(hill), []
    result = search(session, FEW, recipe=small(optimizer__lr=0.001, stop_at=0.6), say=told.append)
    assert {job.recipe.stop_at for job in session.trained} == {None}
    assert told[0].startswith("while tuning, runs train to their end")
    assert result.recipe.stop_at == 0.6


def test_when_nothing_trains_the_error_says_why() -> None:
    with pytest.raises(DivergenceError, match=r"no value trained with all its seeds: seed 0 failed"):
        search(FormulaSession(lambda recipe: None), LR)


def test_a_range_of_whole_numbers_round_a_fraction_is_refused_before_anything_trains() -> None:
    session = FormulaSession(hill)
    with pytest.raises(InputError, match=r"optimizer\.lr is 0\.001, which is no whole number to search around"):
        search(session, "optimizer.lr=log-int:1..4")
    assert not session.trained
    assert search(session, "optimizer.lr=log-int:1..4", sampler="random", trials=3).trials


def test_a_present_value_outside_of_the_range_is_the_baseline_of_every_sampler() -> None:
    recipe = small(optimizer__lr=5.0)
    for sampler in ("coordinate", "tpe", "random"):
        result = search(FormulaSession(hill), LR, recipe=recipe, sampler=sampler, trials=12)
        assert result.baseline.values == {"optimizer.lr": 5.0}
        assert all(1e-3 <= t.values["optimizer.lr"] <= 1e-1 for t in result.trials[1:])  # type: ignore[operator]
        assert result.best is not result.baseline


def test_a_best_value_at_the_end_of_its_range_is_pointed_out() -> None:
    result = search(FormulaSession(hill), "optimizer.lr=log:0.0005..0.005")
    assert result.at_end == ("optimizer.lr",)
    assert "The best optimizer.lr is at the end of its range, 0.005" in " ".join(result_lines(result))


def test_choices_of_whole_components_are_searched_and_written_into_the_recipe() -> None:
    text = 'augment=[],[{"name":"translate","max_px":1}]'
    session = FormulaSession(lambda recipe: 0.5 + 0.1 * len(recipe.augment))
    result = search(session, text)
    assert result.recipe.augment == (part("translate", max_px=1),)
    assert result.to_dict()["changes"] == [
        {"path": "augment", "before": [], "after": [{"name": "translate", "max_px": 1}]}
    ]


def test_time_that_runs_out_is_said_and_the_study_goes_on_later(store: Store) -> None:
    now = [0.0]

    class Slow(FormulaSession):
        def train(self, recipe: Recipe, seed: int):  # type: ignore[no-untyped-def]
            now[0] += 10
            return super().train(recipe, seed)

    session = Slow(hill, store=store)
    with pytest.raises(HotlapError, match="time ran out"):
        search(session, FEW, pace=Pace(25, now=lambda: now[0]))
    assert len(session.trained) == 2  # a third would end at 30 s
    result = search(session, FEW, pace=Pace(45, now=lambda: now[0]))
    assert len(session.trained) == 6
    assert not result.complete
    assert "the same command goes on" in result_lines(result)[-1]
    assert search(session, FEW).complete


def test_a_study_has_one_process_at_a_time_and_one_question(store: Store) -> None:
    session = FormulaSession(hill, store=store)
    first = search(session, FEW, name="mine")
    with pytest.raises(InputError, match="made with another space, seeds → start another with --study NAME"):
        search(session, BETA, name="mine", seeds=(0, 1))
    path = store.path.with_name("studies.sqlite")
    with open_study(path, "mine") as study:
        assert len(study.trials) == len(first.trials)
        with pytest.raises(InputError, match="another process is working on the study 'mine'"):
            search(session, FEW, name="mine")
        search(session, BETA, name="another")
    with pytest.raises(InputError, match="there is no study 'none'"), open_study(path, "none"):
        pass


def test_a_file_that_is_no_file_of_studies_is_named(store: Store, tmp_path: Path) -> None:
    bad = tmp_path / "bad.sqlite"
    bad.write_text("this is a text of more than a hundred characters, " * 20)
    with pytest.raises(StoreError, match=r"bad\.sqlite is no usable file of studies: .*not a database"):
        search(FormulaSession(hill, store=store), LR, storage=bad)
    with pytest.raises(StoreError, match="cannot write studies"):
        search(FormulaSession(hill, store=store), LR, storage=bad / "below.sqlite")


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"seeds": (1,)}, "at least two different seeds"),
        ({"seeds": (1, 1)}, "at least two different seeds"),
        ({"trials": 0}, "at least 1"),
        ({"alpha": 1.0}, "between 0 and 1"),
        ({"hold_out": 1.5}, "cannot be held out"),
        ({"hold_out": math.nan}, "nan images cannot be held out"),
        ({"hold_out": math.inf}, "inf images cannot be held out"),
        ({"seeds": (0, -1)}, "a seed is from 0 to"),
        ({"hold_out": 119}, "images must be from"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, object], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        search(FormulaSession(hill), LR, **options)
    with pytest.raises(InputError, match="nothing to tune"):
        tune(small(), [], session=FormulaSession(hill))


def test_a_session_without_a_store_keeps_the_study_in_memory() -> None:
    assert search(FormulaSession(hill), LR).best.changes


def test_plots(store: Store, tmp_path: Path) -> None:
    result = search(FormulaSession(hill, deviation=0.001, store=store), FEW, BETA, sweeps=1, seeds=(0, 1))
    written = write_figures(store.path.with_name("studies.sqlite"), result.study, tmp_path / "plots")
    assert [path.name for path in written] == ["history.svg", "slice.svg", "importances.svg"]
    assert all("<svg" in path.read_text() for path in written)
    assert trials_table(result).row_count == len(result.trials)


def test_missing_optuna_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"tuning needs Optuna → pip install 'hotlap\[tune\]'"):
        check_installed()


# -- the test set ---------------------------------------------------------------------------------------------------


def test_the_size_of_what_is_held_out() -> None:
    def images(train: int, wanted: float | None) -> int:
        return choose_hold_out(small().with_changes({"data.train": train, "data.classes": 2}), wanted, 0).images

    assert [images(120, w) for w in (None, 30, 0.1, 0.5)] == [20, 30, 12, 60]
    assert images(70_000, None) == 10_000
    already = small().with_changes({"data": held_out(SMALL, 16, 5)})
    for wanted, seed in ((None, 0), (16, 0), (16, 5), (None, 5)):
        assert choose_hold_out(already, wanted, seed) == HoldOut(16, 5)
    for wanted, seed in ((30, 0), (None, 4)):
        with pytest.raises(InputError, match=r"holds out 16 images of its own \(seed 5\) → leave out --hold-out"):
            choose_hold_out(already, wanted, seed)


def test_a_recipe_that_is_held_out_already_keeps_its_images_and_the_result_does_not() -> None:
    data = held_out(SMALL, 16, 5)
    session = FormulaSession(hill)
    result = search(session, LR, recipe=small(optimizer__lr=0.001).with_changes({"data": data}))
    assert {job.recipe.data for job in session.trained} == {data}
    assert result.recipe.data == SMALL
    assert result.hold_out == HoldOut(16, 5)


def test_a_recipe_on_test_images_is_refused() -> None:
    with pytest.raises(HotlapError, match="must not see the test set of synthetic"):
        ensure_held_out(small())
    ensure_held_out(validation_recipe(small(), HoldOut(20, 0)))

    class Cheating(FormulaSession):
        def run_all(self, jobs, executor=None):  # type: ignore[no-untyped-def]
            original = (Job(small(), job.seed) for job in jobs)
            return super().run_all(original, executor)

    with pytest.raises(HotlapError, match="must not see the test set"):
        search(Cheating(hill), LR)


def test_a_poisoned_test_set_changes_nothing(tmp_path: Path) -> None:
    """The real engine, on data whose test labels are wrong in one of two searches."""
    poisoned = False

    def build(**options: object) -> Built:
        data = SYNTHETIC_SET.build(**options).data
        arrays = dict(data.arrays)
        if poisoned:
            arrays["y_test"] = np.roll(arrays["y_test"], 1) if options["seed"] else (arrays["y_test"] + 1) % 4
        return Built(image_data("poisonable", arrays, data.class_names), source="made on the spot")

    datasets.register(OwnSet(name="poisonable", options=SYNTHETIC_SET.options, build=build))
    try:
        recipe = small(batch_size=16).with_changes(
            {"data": part("poisonable", **{**SMALL.options, "train": 200, "test": 40}), "stop_at": 0.99, "epochs": 2.0}
        )
        found = []
        accuracies = []
        for poisoned in (False, True):
            with Store(tmp_path / str(poisoned) / "runs.sqlite") as store:
                session = Session(store=store, timing_valid=False, threads=1)
                found.append(search(session, "optimizer.lr=1e-4,0.02", recipe=recipe, seeds=(0, 1), hold_out=40))
                accuracies.append(session.train(found[-1].recipe, 0).accuracy)
    finally:
        datasets._registry.pop("poisonable")
    assert outcome(found[0]) == outcome(found[1])
    assert found[0].best.changes
    clean, poison = accuracies
    assert clean > 0.7 > 0.3 > poison  # type: ignore[operator]
