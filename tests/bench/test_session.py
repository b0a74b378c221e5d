from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import hotlap
from hotlap import datasets
from hotlap.bench.ladder_run import LadderRun
from hotlap.bench.order import interleave
from hotlap.bench.own_data import data_component
from hotlap.bench.session import Session, resolve_recipe
from hotlap.errors import DataError, DivergenceError, InputError
from hotlap.ladder import Ladder, Published, Rung, get_recipe
from hotlap.recipe import part
from hotlap.store import Store
from tiny import SYNTHETIC, tiny


def rung(name: str, time_s: float | None, **changes: object) -> Rung:
    return Rung(
        name=name,
        title=name,
        change={path.replace("__", "."): value for path, value in changes.items()},
        why="because",
        source="here",
        published=Published(time_s=time_s, time=f"{time_s} s", accuracy=None, accuracy_text="-"),
    )


LADDER = Ladder(
    name="tiny",
    title="A tiny ladder",
    base=tiny(),
    rungs=(rung("0-base", 10.0), rung("1-batch", 5.0, batch_size=128), rung("2-short", None, epochs=1.0)),
    policy="certified",
    hardware="none",
)


def test_runs_are_stored_as_they_come_failed_ones_too(own_store: Path) -> None:
    with Store() as store:
        session = Session(store=store)
        first = session.run(tiny(), 0)
        failed = session.run(tiny(optimizer__lr=1e30), 0)
        assert [run.id for run in store.runs()] == [first.id, failed.id]
        assert [run.status for run in store.runs()] == ["done", "failed"]
        assert store.runs()[0].accuracy == first.accuracy


def test_finished_runs_are_found_again_only_where_they_would_be_repeated(own_store: Path) -> None:
    with Store() as store:
        session = Session(store=store)
        run = session.run(tiny(), 4)
        renamed = replace(tiny(), name="other name", target=0.9)
        assert session.finished(renamed)[4].id == run.id
        assert session.finished(renamed)[4].recipe.name == "other name"
        assert session.finished(tiny(batch_size=32)) == {}
        threads = run.environment.threads + 1
        assert Session(store=store, threads=threads).finished(tiny()) == {}
        shared = session.run(tiny(), 6)
        store.add(replace(shared, id="y", seed=7, timing_valid=False))
        store.add(replace(shared, id="z", seed=8, data_digest="other data"))
        assert set(session.finished(tiny())) == {4, 6, 7}
        assert 7 not in session.finished(tiny(), timed=True)
        elsewhere = replace(run, id="x", seed=5, environment=replace(run.environment, cpu="another"))
        store.add(elsewhere)
        assert 5 not in session.finished(tiny())
        # Of a repeated seed the newest stands, but for a failure: trying until it succeeds is no evidence.
        store.add(again := replace(run, id="again", started_at="2100-01-01T00:00:00+00:00"))
        assert session.finished(tiny())[4].id == again.id
        store.add(replace(run, id="bad", status="failed", accuracy=None))
        assert session.finished(tiny(), failed=True)[4].id == "bad"
        assert session.finished(tiny())[4].id == again.id
    assert Session().finished(tiny()) == {}


def test_failed_runs_are_found_where_they_are_asked_for(own_store: Path) -> None:
    diverging = tiny(optimizer__lr=1e30)
    with Store() as store:
        session = Session(store=store)
        failed = session.run(diverging, 0)
        assert session.finished(diverging) == {}
        assert session.finished(diverging, failed=True)[0].id == failed.id
        # It took no time that could count or not.
        store.add(replace(failed, id="x", seed=1, timing_valid=False))
        assert set(session.finished(diverging, timed=True, failed=True)) == {0, 1}
        ladder = replace(LADDER, base=diverging)
        assert LadderRun(ladder=ladder, rungs=(0,), seeds=(0, 1, 2), session=session).todo() == [(0, 2)]


def test_retiming_a_ladder_repeats_what_shared_the_machine(own_store: Path) -> None:
    with Store() as store:
        session = Session(store=store)
        run = session.run(tiny(batch_size=128, epochs=1.0), 0)
        store.add(replace(run, id="x", seed=1, timing_valid=False))
        store.add(replace(run, id="y", seed=2, timing_valid=True))
        asked = {"ladder": LADDER, "rungs": (2,), "seeds": (1, 2, 3), "session": session}
        assert LadderRun(**asked).todo() == [(2, 3)]
        assert LadderRun(**asked, timed=True).todo() == [(2, 1), (2, 3)]


def test_a_ladder_goes_round_its_rungs_last_first_and_resumes(own_store: Path) -> None:
    with Store() as store:
        ladder = LadderRun(ladder=LADDER, rungs=(0, 1, 2), seeds=(0, 1), session=Session(store=store))
        todo = ladder.todo()
        assert todo == [(2, 0), (1, 0), (0, 0), (2, 1), (1, 1), (0, 1)]
        assert ladder.time_left() is None
        execution = ladder.execute()
        for _ in range(4):  # before and after each of two runs
            next(execution)
        execution.close()
        again = LadderRun(ladder=LADDER, rungs=(0, 1, 2), seeds=(0, 1), session=Session(store=store))
        assert again.todo() == todo[2:]
        done = [(index, seed) for index, seed, run in again.execute() if run is not None]
        assert done == todo[2:]
        assert len(store.runs()) == 6
        assert again.todo() == []
        assert again.time_left() == 0
        fresh = LadderRun(ladder=LADDER, rungs=(2,), seeds=(0,), session=Session(store=store), fresh=True)
        assert fresh.todo() == [(2, 0)]


def test_rungs_without_runs_are_estimated_from_published_times(own_store: Path) -> None:
    session = Session()
    ladder = LadderRun(ladder=LADDER, rungs=(0, 1, 2), seeds=(0,), session=session)
    run = session.run(tiny(batch_size=128), 0)
    ladder.runs[1][0] = replace(run, phases={**dict.fromkeys(run.phases, 0.0), "train": 3.0})
    assert ladder.estimate(1) == 3.0
    assert ladder.estimate(0) == pytest.approx(6.0)
    assert ladder.estimate(2) is None
    assert ladder.time_left() is None


def test_a_time_limit_leaves_out_what_would_not_fit(own_store: Path) -> None:
    clock = iter(range(1000))
    ladder = LadderRun(ladder=LADDER, rungs=(0, 1), seeds=(0, 1), session=Session(), now=lambda: float(next(clock)))
    done = [index for index, _, run in ladder.execute(max_seconds=2.5) if run is not None]
    assert 1 <= len(done) < 4
    assert ladder.skipped_for_time == 4 - len(done)
    assert len(ladder.todo()) == ladder.skipped_for_time


def test_interleaving_is_fair_to_every_position() -> None:
    order = list(interleave("ABC", 4))
    for number in range(4):
        assert sorted(item for n, item in order if n == number) == ["A", "B", "C"]
    for item in "ABC":
        places = [i % 3 for i, (_, x) in enumerate(order) if x == item]
        assert sum(places) == 4  # the middle, on average


def test_recipes_are_found_by_name_file_and_object(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_text(tiny().to_json(indent=1))
    assert resolve_recipe(path) == resolve_recipe(str(path)) == resolve_recipe(tiny()) == tiny()
    assert resolve_recipe("mnist") == get_recipe("mnist/record")
    changed = resolve_recipe(tiny(), changes={"optimizer.lr": 0.5})
    assert changed.name == "tiny [optimizer.lr=0.5]"
    assert changed.digest == tiny(optimizer__lr=0.5).digest
    for bad, message in ((tmp_path / "none.json", "cannot read the recipe"), ("mnist/88", "did you mean")):
        with pytest.raises(InputError, match=message):
            resolve_recipe(bad)
    path.write_text("{")
    with pytest.raises(InputError, match="not a JSON recipe"):
        resolve_recipe(path)


def test_a_data_sets_name_stands_for_another_recipe_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_recipe("cifar10", device="auto").name == "cifar10/record-cpu"
    with pytest.raises(InputError, match="no CUDA GPU"):
        resolve_recipe("mnist", device="cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("auto", "cuda", "cuda:0"):
        assert resolve_recipe("mnist", device=device).name == "mnist/record-gpu"
        assert resolve_recipe("cifar10", device=device).name == "cifar10/record"
    assert resolve_recipe("mnist", device="cpu").name == "mnist/record"
    assert resolve_recipe("fashion-mnist", device="auto").name == "fashion-mnist/record"
    assert resolve_recipe("mnist/record", device="auto").name == "mnist/record"


def test_other_data_brings_its_own_normalisation(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    x = np.random.default_rng(0).integers(0, 256, (80, 28, 28), np.uint8)
    y = np.arange(80) % 4
    np.savez(path, x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    recipe = resolve_recipe("mnist/8-final", data=path)
    assert recipe.data == part("arrays", **{**datasets.options("arrays"), "path": str(path)})
    assert (recipe.feed.mean, recipe.feed.std, recipe.target) == (None, None, None)
    assert recipe.name == "mnist/8-final on mine"
    run = hotlap.train("mnist/8-final", data=path)
    assert run.module(torch.zeros(1, 1, 28, 28)).shape == (1, 4)
    folder = data_component(tmp_path)
    assert folder.options == {**datasets.options("folder"), "path": str(tmp_path)}
    assert resolve_recipe("mnist/8-final", data=tmp_path, changes={"data.size": 32}).data.options["size"] == 32
    assert data_component("fashion-mnist") == part("fashion-mnist")
    with pytest.raises(InputError, match=r"no data set at 'nowhere'.*one of mnist"):
        data_component("nowhere")


def test_own_images_that_do_not_fit_as_numbers_are_refused_where_they_are_held_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).integers(0, 256, (400, 12, 12), np.uint8)
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=np.arange(400) % 4)
    recipe = tiny(epochs=1.0).with_changes({"data": data_component(tmp_path / "mine.npz")})
    little = psutil.virtual_memory()._replace(available=3 * x.size)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: little)
    with pytest.raises(DataError, match="these images as numbers needs"):
        Session(device="cpu", backend="torch").train(recipe, 0)
    one_by_one = recipe.with_changes({"feed.loading": "per-image"})
    assert Session(device="cpu", backend="torch").train(one_by_one, 0).status == "done"
    session = Session(device="cpu")
    if session.backend_of(recipe) == "native":  # its images stay bytes
        assert session.train(recipe, 0).status == "done"


def test_parts_of_the_package_are_there_when_asked_for() -> None:
    code = "import hotlap; hotlap.datasets.from_torch, hotlap.saved.save, hotlap.trackers.Tracker; hotlap.nothing"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip().endswith("AttributeError: module 'hotlap' has no attribute 'nothing'")


def test_python_interface(own_store: Path) -> None:
    run = hotlap.train(tiny(), seed=3, changes={"epochs": 1})
    assert run.seed == 3
    assert run.epochs_run == 1
    assert isinstance(run.module, torch.nn.Module)
    assert not own_store.exists()
    runs = hotlap.run(tiny(), seeds=[3, 4], store=True, changes={"epochs": 1})
    assert [r.seed for r in runs] == [3, 4]
    assert runs[0].accuracy == run.accuracy
    assert runs[0].module is None
    assert runs.summary().n == 2
    assert len(runs.to_frame()) == 2
    with Store() as store:
        assert len(store.runs()) == 2
        hotlap.run(tiny(), seeds=1, store=store)
        assert len(store.runs()) == 3
    elsewhere = own_store.with_name("elsewhere.sqlite")
    hotlap.run(tiny(), seeds=1, store=str(elsewhere))
    with Store(elsewhere) as store:
        assert len(store.runs()) == 1
    with pytest.raises(DivergenceError, match="finite"):
        hotlap.train(tiny(), changes={"optimizer.lr": 1e30})
    with pytest.raises(InputError, match="no seeds"):
        hotlap.run(tiny(), seeds=0)
    runs = hotlap.run(tiny(epochs=1), seeds=np.arange(2), store=elsewhere)
    assert [type(r.seed) for r in runs] == [int, int]
    with Store(elsewhere) as store:
        assert len(store.runs()) == 3
    assert len(hotlap.run(tiny(epochs=1), seeds=np.int64(1))) == 1
    for seeds, message in (
        ([0, -1], "a seed is from 0 to 2"),
        ([2**63], "a seed is from 0 to 2"),
        ([0.5], "a seed is a whole number, not 0.5"),
        ("12", "a seed is a whole number, not '1'"),
        (1.5, "seeds are whole numbers, or how many of them"),
    ):
        with pytest.raises(InputError, match=message):
            hotlap.run(tiny(), seeds=seeds)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a seed is from 0 to 2"):
        hotlap.train(tiny(), seed=-1)
    assert hotlap.train(tiny(epochs=1), seed=2**63 - 1, store=elsewhere).seed == 2**63 - 1
    with pytest.raises(InputError, match="not there"):
        hotlap.train(tiny(), device="cuda:77")


def test_a_session_fetches_before_it_times(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = datasets.load

    def load(name: str, **options: object):  # type: ignore[no-untyped-def]
        calls.append(options.pop("progress", "timed"))
        return real(name, **options)

    monkeypatch.setattr(datasets, "load", load)
    session = Session()
    session.run(tiny(), 0)
    session.run(tiny(batch_size=32), 0)
    assert calls == [None, "timed", "timed"]
    assert SYNTHETIC in session._data


def test_many_seeds_at_once_in_python() -> None:
    """Processes and one program give what one after another gives, in the order asked for."""
    plain = hotlap.run(tiny(epochs=1), seeds=[3, 1, 2], threads=1)
    assert [run.seed for run in plain] == [3, 1, 2]
    processes = hotlap.run(tiny(epochs=1), seeds=[3, 1, 2], jobs=2, threads=1)
    assert [(run.seed, run.loss_by_epoch) for run in processes] == [(run.seed, run.loss_by_epoch) for run in plain]
    together = hotlap.run(tiny(epochs=1), seeds=[3, 1, 2], batch_seeds=3)
    assert [run.seed for run in together] == [3, 1, 2]
    for one, alone in zip(together, plain, strict=True):
        assert one.loss_by_epoch == pytest.approx(alone.loss_by_epoch, rel=1e-4)
        assert not one.timing_valid
