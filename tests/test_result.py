"""Runs, run sets and summaries as data."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories import make_recipe, make_run, make_runs
from hotlap.errors import InputError
from hotlap.result import PHASES, POLICIES, Run, RunSet, now
from hotlap.stats import summarise


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**63),
    accuracy=st.none() | st.floats(0, 1),
    losses=st.lists(st.floats(0, 100), max_size=3),
    curve=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1)), max_size=3),
    contention=st.none() | st.floats(0, 64),
)
def test_a_run_comes_back_equal_through_json(
    seed: int,
    accuracy: float | None,
    losses: list[float],
    curve: list[tuple[float, float]],
    contention: float | None,
) -> None:
    run = replace(
        make_run(accuracy=accuracy),
        seed=seed,
        loss_by_epoch=tuple(losses),
        accuracy_by_epoch=tuple(curve),
        contention=contention,
    )
    assert Run.from_dict(json.loads(json.dumps(run.to_dict(), allow_nan=False))) == run


def test_a_run_with_a_loss_that_is_no_number_is_plain_json() -> None:
    document = make_run(accuracy=None, loss_by_epoch=(1.5, math.nan, math.inf)).to_dict()
    assert json.loads(json.dumps(document, allow_nan=False))["loss_by_epoch"] == [1.5, None, None]
    losses = Run.from_dict(document).loss_by_epoch
    assert losses[0] == 1.5 and math.isnan(losses[1])


def test_the_document_carries_what_readers_want_without_hotlap() -> None:
    run = make_run(certified_s=16.0)
    document = run.to_dict()
    assert (document["certified_s"], document["digest"]) == (16.0, run.recipe.digest)
    assert document["environment"]["cpu"] == "Example CPU"
    assert "module" not in document


def test_the_trained_module_is_neither_stored_nor_compared() -> None:
    run = make_run(id="a" * 32)
    assert replace(run, module=object()) == run
    assert "module" not in repr(replace(run, module=object()))
    assert Run.from_dict(replace(run, module=object()).to_dict()).module is None


@pytest.mark.parametrize("key", ["recipe", "seed", "accuracy", "steps", "data_digest", "environment"])
def test_a_missing_key_is_named(key: str) -> None:
    document = make_run().to_dict()
    del document[key]
    with pytest.raises(InputError, match=f"a stored run lacks {key}"):
        Run.from_dict(document)


def test_times_by_policy() -> None:
    run = make_run(phases={name: 2.0**i for i, name in enumerate(PHASES)})
    load, warmup, prepare, train, evaluate, log = (run.phases[name] for name in PHASES)
    assert (load, warmup, log) == (1, 2, 32)
    assert run.certified_s == run.seconds("certified") == prepare + train + evaluate
    assert run.seconds("notebook") == train + evaluate
    assert run.seconds("dawnbench") == prepare + train
    for policy in POLICIES:
        assert run.seconds(policy) <= sum(run.phases.values())
    with pytest.raises(InputError, match=r"unknown timing policy 'certifed' → did you mean 'certified'\?"):
        run.seconds("certifed")


@pytest.mark.parametrize(
    ("accuracy", "target", "reached"),
    [(0.99, 0.99, True), (0.9899, 0.99, False), (None, 0.99, False), (0.1, None, True), (None, None, False)],
)
def test_reached(accuracy: float | None, target: float | None, reached: bool) -> None:
    assert make_run(accuracy=accuracy, recipe=make_recipe(target=target)).reached is reached


def test_ids_differ_and_moments_are_utc() -> None:
    run = make_run()
    document = run.to_dict()
    del document["id"], document["started_at"]
    first, second = Run.from_dict(document), Run.from_dict(document)
    assert first.id != second.id
    assert first.started_at.endswith("+00:00")


def test_moments_tell_short_runs_apart() -> None:
    moments = [now() for _ in range(100)]
    assert len(set(moments)) > 50
    for text in ("2026-01-02T05:04:05.25+02:00", "2026-01-02T03:04:05.250000+00:00", "2026-01-02T03:04:05.25"):
        assert make_run(started_at=text).began == datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)


def test_a_run_set_is_a_sequence_of_runs_of_one_recipe() -> None:
    runs = make_runs(4)
    run_set = RunSet(tuple(runs))
    assert len(run_set) == 4
    assert run_set[1] is runs[1]
    assert list(run_set) == runs
    assert runs[2] in run_set
    assert run_set.recipe == make_recipe()
    with pytest.raises(InputError, match="one recipe, these are 2"):
        RunSet((make_run(), make_run(recipe=make_recipe(batch_size=1))))
    with pytest.raises(InputError, match="empty run set"):
        _ = RunSet(()).recipe


def test_a_summary_is_plain_json() -> None:
    for runs in (make_runs(30), make_runs(1), [make_run(accuracy=None)]):
        summary = summarise(runs)
        document = summary.to_dict()
        read = json.loads(json.dumps(document, allow_nan=False))
        assert read == document
        assert read["accuracy_mean"] == summary.accuracy_mean
