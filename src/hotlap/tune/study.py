"""Tuning a recipe on images held out of its training set."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.trial import TrialState

from hotlap import datasets
from hotlap.bench.executors import Executor
from hotlap.bench.session import Session
from hotlap.engine.feed import check_batch
from hotlap.engine.network import image_shape
from hotlap.errors import DivergenceError, HotlapError, InputError
from hotlap.recipe import Change, Recipe
from hotlap.result import check_seed
from hotlap.tune.ascent import SWEEPS
from hotlap.tune.driving import drive
from hotlap.tune.drop import ALPHA, SeedTestPruner, accuracies_of
from hotlap.tune.equal_flop import EqualFlop, refuse_selection
from hotlap.tune.pace import Pace
from hotlap.tune.result import Tried, TuneResult
from hotlap.tune.search import DROPPED, EPOCHS, Search
from hotlap.tune.space import Parameter, Point, check_space, value_at
from hotlap.tune.storage import BASELINE, FILE, open_study, requeue_interrupted
from hotlap.tune.strategies import SamplerName, Strategy, choose_strategy, values_of
from hotlap.tune.validation import (
    ValidationRuns,
    build_parts,
    choose_hold_out,
    final_recipe,
    validation_recipe,
)

if TYPE_CHECKING:
    from optuna.study import Study


def tune(
    recipe: Recipe,
    space: Sequence[Parameter],
    *,
    session: Session,
    executor: Executor | None = None,
    sampler: SamplerName = "coordinate",
    seeds: Sequence[int] = (0, 1, 2),
    trials: int | None = None,
    sweeps: int = SWEEPS,
    hold_out: int | float | None = None,
    hold_out_seed: int = 0,
    equal_flop: bool = False,
    storage: Path | None = None,
    name: str | None = None,
    alpha: float = ALPHA,
    pace: Pace | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> TuneResult:
    """Search for the values of a recipe with the highest mean accuracy on held-out training images.

    The test set is not looked at. A study that was interrupted goes on where it was when it is asked the same again;
    of runs only those in flight are lost, provided that the session has a store. A point that cannot be trained, such
    as a batch for which a GPU has too little memory, is dropped with the reason.

    Args:
        recipe: to be tuned; always the first point that is tried.
        space: where to search; the ascent tunes the parameters in this order.
        session: trains and stores the runs. Its own threads count where ``executor`` is None.
        executor: where runs are trained; in this process when None.
        sampler: ``coordinate`` ascent, or ``tpe`` or ``random`` as Optuna has them.
        seeds: with which each point is trained; at least 2. The same for all, so that they share their random numbers.
        trials: most points; None for as many as the ascent takes, or 20.
        sweeps: most sweeps of the ascent over all parameters.
        hold_out: how many training images to hold out, or which share of them when below 1; see ``choose_hold_out``.
        hold_out_seed: decides which.
        equal_flop: train every point with as many FLOP as the recipe as it was given, by changing its epochs; else
            with as many epochs. The best point's epochs go into the tuned recipe. See ``equal_flop``.
        storage: SQLite file of studies; None for one next to the session's store, or for memory without a store.
        name: of the study; None for one that follows from all that decides its outcome.
        alpha: chance of dropping a point that is as good as the best before all its seeds have run.
        pace: no run is started that does not fit into it; None for no limit.
        say: told of every point that has been tried, in a line.

    Raises:
        InputError: an argument makes no sense, the recipe as it was given cannot be trained, or selects its images
            where ``equal_flop`` is asked for, another process is at the study, or it was made with other arguments.
        HotlapError: no point finished with all its seeds.
    """
    seeds = [check_seed(seed) for seed in seeds]
    _check(space, seeds, trials, sweeps, alpha)
    if equal_flop:
        refuse_selection(recipe)
        if any(parameter.path == "epochs" for parameter in space):
            raise InputError("epochs cannot be tuned at equal FLOP: they follow from them", "leave out equal_flop")
    pace = pace or Pace(None)
    session.fetch(recipe)
    chosen = choose_hold_out(recipe, hold_out, hold_out_seed)
    on_held_out = validation_recipe(recipe, chosen)
    digest = session.fetch(on_held_out)
    data = datasets.load(on_held_out.data.name, **on_held_out.data.options)

    def build(changed: Recipe) -> None:
        build_parts(changed, data)
        if equal_flop:
            refuse_selection(changed)

    def whole(changed: Recipe) -> None:
        build(changed)
        check_batch(changed, data)

    whole(on_held_out)
    equal = EqualFlop(on_held_out, image_shape(data), data.classes) if equal_flop else None
    # A default range may hold batches that are larger than the user's own data: those points are dropped one by one.
    check_space(on_held_out, space, build)
    start = {parameter.path: value_at(recipe, parameter.path) for parameter in space}
    strategy = choose_strategy(sampler, space, start, trials=trials, sweeps=sweeps)
    if recipe.stop_at is not None:
        say("while tuning, runs train to their end: those that stop at an accuracy cannot be ranked by it")
    question: dict[str, Any] = {
        "recipe": on_held_out.digest,
        "data": digest,
        "space": [parameter.to_dict() for parameter in space],
        "sampler": sampler,
        "seeds": list(seeds),
    }
    if equal_flop:  # left out otherwise, so that earlier studies keep their names
        question["equal_flop"] = True
    name = name or default_name(recipe, sampler, question)
    if storage is None and session.store is not None:
        storage = session.store.path.with_name(FILE)
    with open_study(storage, name, question) as study:
        study.pruner = SeedTestPruner(len(seeds), alpha)
        requeue_interrupted(study, [parameter.path for parameter in space])
        runs = ValidationRuns(session)
        search = Search(
            study,
            on_held_out,
            strategy,
            start,
            seeds=seeds,
            runs=runs,
            pace=pace,
            build=whole,
            say=say,
            epochs_of=None if equal is None else equal.epochs_of,
        )
        drive(search, session, executor)
        tried = _tried(study, strategy, start, recipe.epochs)
    best = _best(tried, search.out_of_time)
    changed = final_recipe(recipe).with_changes({change.path: change.after for change in best.changes})
    return TuneResult(
        recipe=changed.with_changes({}, name=f"{recipe.name} tuned"),
        study=name,
        sampler=sampler,
        seeds=tuple(seeds),
        hold_out=chosen,
        equal_flop=equal_flop,
        trials=tried,
        best=best,
        at_end=tuple(p.path for p in space if p.kind != "choice" and best.values[p.path] in (p.low, p.high)),
        complete=not search.out_of_time,
        runs_trained=runs.trained,
        runs_reused=search.reused,
    )


def default_name(recipe: Recipe, sampler: str, question: Mapping[str, Any]) -> str:
    """Return a study's name: the recipe's, the sampler's, and a digest of everything that decides the outcome."""
    digest = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return f"{recipe.name} {sampler} {digest[:8]}"


def _check(space: Sequence[Parameter], seeds: Sequence[int], trials: int | None, sweeps: int, alpha: float) -> None:
    if not space:
        raise InputError("there is nothing to tune", "name something: --param optimizer.lr=log:1e-3..1e-1")
    if len(set(seeds)) < max(2, len(seeds)):
        raise InputError("a value is trained with at least two different seeds", "--seeds 3")
    if (trials is not None and trials < 1) or sweeps < 1:
        raise InputError("--trials and --sweeps are at least 1", None)
    if not 0 < alpha < 1:
        raise InputError(f"--alpha is an error rate between 0 and 1, not {alpha:g}", "for example --alpha 0.05")


def _tried(study: Study, strategy: Strategy, start: Point, given: float) -> tuple[Tried, ...]:
    """Return the trials that ended, the recipe as it was given first."""
    found = []
    ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    for trial in sorted(ended, key=lambda t: (not t.user_attrs.get(BASELINE), t.number)):
        values = values_of(trial.params, strategy.stored, start)
        changes = [Change(path, start[path], value) for path, value in values.items() if value != start[path]]
        epochs = trial.user_attrs.get(EPOCHS)
        if epochs is not None and epochs != given:
            changes.append(Change("epochs", given, epochs))
        found.append(
            Tried(
                number=trial.number,
                values=values,
                changes=tuple(changes),
                epochs=epochs,
                dropped=trial.user_attrs.get(DROPPED),
                accuracies=accuracies_of(trial),
            )
        )
    return tuple(found)


def _best(tried: Sequence[Tried], out_of_time: bool) -> Tried:
    """Return the point with the highest mean of all its seeds, the earliest where several are equal."""
    finished = [one for one in tried if one.dropped is None]
    if not finished and out_of_time:
        raise HotlapError("the time ran out before a value had trained with all its seeds", "repeat to go on")
    if not finished:
        why = f": {tried[0].dropped}" if tried else ""
        diverged = any(None in one.accuracies.values() for one in tried)
        raise (DivergenceError if diverged else HotlapError)(
            f"no value trained with all its seeds{why}", "start from a recipe that trains"
        )
    return max(finished, key=lambda one: one.mean or 0.0)
