from __future__ import annotations

import math
from collections.abc import Mapping

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotlap.errors import HotlapError
from hotlap.recipe import Value
from hotlap.tune.ascent import CoordinateAscentSampler, ascend, candidates, key_of
from hotlap.tune.space import Parameter, Point

LR = Parameter(path="lr", kind="float", low=1e-4, high=1.0, log=True)
BETA = Parameter(path="beta", kind="float", low=0.5, high=0.99)
BATCH = Parameter(path="batch", kind="int", low=16, high=1024, log=True)
SHAPE = Parameter(path="shape", kind="choice", choices=("cos", "linear", "flat"))
SPACE = (LR, BETA, BATCH, SHAPE)
START: dict[str, Value] = {"lr": 0.2, "beta": 0.95, "batch": 64, "shape": "cos"}


def climb(score, space=SPACE, start: Point = START, **options):  # type: ignore[no-untyped-def]
    """Climb to the end, one point at a time, and return the best point and all scores."""
    scores: dict[tuple[Value, ...], float] = {}
    while True:
        best, missing = ascend(scores, space, start, **options)
        if not missing:
            return best, scores
        scores[key_of(missing[0], space)] = score(missing[0])


def hill(point: Mapping[str, Value]) -> float:
    """Best at lr 0.02, beta 0.7, batch 256, linear; the best lr moves with beta, as it does in training."""
    lr, beta, batch = (float(point[name]) for name in ("lr", "beta", "batch"))  # type: ignore[arg-type]
    off = math.log(lr / 0.02) - (beta - 0.7)
    slope = {"cos": 0.3, "linear": 0.0, "flat": 0.9}[str(point["shape"])]
    return -(off**2) - 20 * (beta - 0.7) ** 2 - 0.3 * math.log(batch / 256) ** 2 - slope


@pytest.mark.parametrize("lr", [0.002, 0.02, 0.2])
def test_it_finds_the_optimum_from_a_learning_rate_that_is_ten_times_wrong(lr: float) -> None:
    best, _ = climb(hill, start={**START, "lr": lr}, sweeps=3)
    assert 0.02 / 1.3 < float(best["lr"]) < 0.02 * 1.3  # type: ignore[arg-type]
    assert abs(float(best["beta"]) - 0.7) < 0.05  # type: ignore[arg-type]
    assert 128 <= int(best["batch"]) <= 512  # type: ignore[call-overload]
    assert best["shape"] == "linear"


def test_it_ends_after_a_sweep_that_changed_nothing() -> None:
    _, scores = climb(lambda point: float(point == START), sweeps=50)
    assert len(scores) == 1 + sum(len(candidates(p, START[p.path])) for p in SPACE)


def test_sweeps_are_bounded_and_each_looks_closer() -> None:
    _, one = climb(hill, sweeps=1)
    _, two = climb(hill, sweeps=2)
    assert one.items() < two.items()
    coarse, fine = candidates(LR, 0.01), candidates(LR, 0.01, sweep=1)
    assert max(coarse) / min(coarse) == pytest.approx(1e4)  # type: ignore[operator, type-var]
    assert max(fine) / min(fine) == pytest.approx(1e2, rel=0.05)  # type: ignore[operator, type-var]


def test_a_value_replaces_the_present_one_only_if_it_is_better_and_the_first_of_equals_is_taken() -> None:
    best, _ = climb(lambda point: 1.0)
    assert best == START
    best, _ = climb(lambda point: float(point["shape"] != "cos"), space=(SHAPE,), start={"shape": "cos"})
    assert best == {"shape": "linear"}


def test_a_start_that_failed_is_left_for_anything_that_trains() -> None:
    best, _ = climb(lambda point: -math.inf if point["lr"] == 0.2 else hill(point))
    assert best["lr"] != 0.2


def test_all_values_of_a_parameter_are_known_before_the_next_is_tuned() -> None:
    scores = {key_of(START, SPACE): 0.0}
    _, missing = ascend(scores, SPACE, START)
    assert [point["lr"] for point in missing] == list(candidates(LR, 0.2))
    assert all(point["beta"] == 0.95 for point in missing)


@pytest.mark.parametrize(
    ("parameter", "present", "sweep", "expected"),
    [
        (LR, 0.01, 0, (0.0001, 0.0005, 0.0022, 0.05, 0.22, 1.0)),
        (LR, 5.0, 0, (0.0001, 0.0005, 0.0022, 0.01, 0.05, 0.22, 1.0)),
        (SHAPE, "linear", 3, ("cos", "flat")),
        (Parameter(path="p", kind="int", low=0, high=4), 2, 0, (0, 1, 3, 4)),
        (Parameter(path="p", kind="int", low=1, high=2, log=True), 1, 0, (2,)),
        (Parameter(path="p", kind="float", low=0.1, high=0.9, step=0.4), 0.5, 0, (0.1, 0.9)),
        (Parameter(path="p", kind="float", low=0.0, high=0.3), 0.0, 0, (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)),
        (Parameter(path="p", kind="float", low=0.0, high=0.3), 0.15, 1, (0.075, 0.1, 0.125, 0.175, 0.2, 0.225)),
        (Parameter(path="p", kind="float", low=0.0, high=0.3), 0.9, 1, (0.225, 0.237, 0.25, 0.262, 0.275, 0.287, 0.3)),
    ],
)
def test_candidates(parameter: Parameter, present: Value, sweep: int, expected: tuple[Value, ...]) -> None:
    assert candidates(parameter, present, sweep=sweep) == expected


@given(
    st.floats(1e-6, 1e3), st.floats(1.001, 1e6), st.booleans(), st.sampled_from(["int", "float"]), st.floats(1e-9, 1e9),
    st.integers(0, 6), st.integers(2, 20),
)  # fmt: skip
def test_candidates_lie_in_the_range_and_are_new(low, ratio, log, kind, present, sweep, values) -> None:  # type: ignore[no-untyped-def]
    high = low * ratio
    if kind == "int":
        low, high = math.ceil(low), math.ceil(low) + math.ceil(high)
        present = round(present)
    parameter = Parameter(path="p", kind=kind, low=low, high=high, log=log)
    found = candidates(parameter, present, sweep=sweep, values=values)
    assert all(parameter.contains(value) for value in found)
    assert present not in found
    assert len(set(found)) == len(found) <= values


def test_the_sampler_goes_on_in_a_new_process_as_it_would_have_in_the_old(tmp_path) -> None:  # type: ignore[no-untyped-def]
    space, start = (LR, SHAPE), {"lr": 0.2, "shape": "cos"}

    def score(point: Mapping[str, Value]) -> float:
        return hill({**START, **point})

    def study(storage: str | None) -> optuna.Study:
        return optuna.create_study(
            study_name="one",
            storage=storage,
            sampler=CoordinateAscentSampler(space, start, sweeps=1),
            direction="maximize",
            load_if_exists=True,
        )

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)

    def work(on: optuna.Study, trials: int) -> None:
        distributions = {p.path: p.distribution() for p in space}
        for _ in range(trials):
            trial = on.ask(distributions)
            if trial.params["lr"] == 1.0:
                on.tell(trial, state=optuna.trial.TrialState.PRUNED)
            else:
                on.tell(trial, score(trial.params))

    unbroken = study(None)
    total = len(climb(lambda p: -math.inf if p["lr"] == 1.0 else score(p), space, start, sweeps=1)[1])
    work(unbroken, total)
    for part in (5, total - 5):
        broken = study(f"sqlite:///{tmp_path / 'studies.sqlite'}")
        work(broken, part)
    points = [[trial.params for trial in one.trials] for one in (unbroken, broken)]
    assert points[0] == points[1]
    assert points[0][0] == start
    sampler = unbroken.sampler
    assert isinstance(sampler, CoordinateAscentSampler)
    assert sampler.next_points(unbroken) == []
    with pytest.raises(HotlapError, match="ended"):
        unbroken.ask({"lr": LR.distribution()}).params  # noqa: B018
    broken._storage._backend.engine.dispose()  # type: ignore[attr-defined]
