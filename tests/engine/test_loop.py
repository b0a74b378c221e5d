from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from hotlap import datasets
from hotlap.datasets import ImageData
from hotlap.engine.clock import Clock
from hotlap.engine.devices import use_threads
from hotlap.engine.loop import train_once
from hotlap.errors import DataError, InputError
from hotlap.recipe import Recipe
from hotlap.result import Backend, Run
from rounding import decides_weights
from tiny import tiny

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))), reason="there is no C++ compiler"
)
BACKEND: Backend = "torch"


def load_of(recipe: Recipe) -> Callable[[], ImageData]:
    return lambda: datasets.load(recipe.data.name, **recipe.data.options)


@pytest.fixture(autouse=True, params=["torch", "auto"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the loop promises holds for both backends; ``auto`` is the compiled kernels where they are and can."""
    monkeypatch.setattr("test_loop.BACKEND", request.param)
    return str(request.param)


def go(seed: int = 0, clock: Clock | None = None, log_accuracy: bool = False, **changes: Any) -> Run:
    recipe = tiny(**changes)
    return train_once(
        recipe, load_of(recipe), seed, device=CPU, clock=clock, log_accuracy=log_accuracy, backend=BACKEND
    )


def decided_by_rounding(run: Run, most: float) -> bool:
    """Whether rounding alone takes a run as far as ``most`` from where it ends."""

    def again() -> torch.Tensor:
        return weights(train_once(run.recipe, load_of(run.recipe), run.seed, device=CPU, backend="torch"))

    return decides_weights(again, most)


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.module.parameters()])


def test_a_run_knows_when_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("hotlap.engine.loop.now", lambda: asked.append("now") or "2026-01-01T00:00:00+00:00")
    recipe = tiny(epochs=1)

    def load() -> ImageData:
        assert asked == ["now"]
        return load_of(recipe)()

    run = train_once(recipe, load, 0, device=CPU, backend=BACKEND)
    assert (run.started_at, asked) == ("2026-01-01T00:00:00+00:00", ["now"])


def test_it_learns() -> None:
    run = go(epochs=6)
    assert run.status == "done"
    assert run.accuracy is not None
    assert run.accuracy > 0.9
    assert run.loss_by_epoch[-1] < 0.5 * run.loss_by_epoch[0]
    assert (run.steps, run.epochs_run) == (48, 6.0)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feed__loading": "per-image", "epochs": 1},
        {"feed__shuffle": "once", "model__hidden_dropout": 0.5, "model__conv_dropout": 0.2},
        {"augment": [{"name": "translate", "max_px": 1}, {"name": "flip", "share": 0.5}]},
        {"engine__memory_format": "channels_last"},
        {"engine__precision": "bf16"},
    ],
    ids=str,
)
def test_the_same_seed_gives_bit_equal_weights(changes: dict[str, Any]) -> None:
    first, again, other = go(1, **changes), go(1, **changes), go(2, **changes)
    assert torch.equal(weights(first), weights(again))
    assert first.accuracy == again.accuracy
    assert first.loss_by_epoch == again.loss_by_epoch
    assert not torch.equal(weights(first), weights(other))


def test_the_same_seed_gives_bit_equal_weights_with_several_threads() -> None:
    with use_threads(2):
        first, again = go(1, batch_size=256, epochs=1), go(1, batch_size=256, epochs=1)
    assert first.environment.threads == 2
    assert torch.equal(weights(first), weights(again))


def test_the_callers_generators_and_threads_are_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    go()
    assert torch.equal(torch.rand(3), expected)


def test_the_feeds_agree() -> None:
    """The slow per-image feed and the fast one see the same pixels, so they evaluate alike after equal training."""
    fast = go(feed__shuffle="once", epochs=1)
    slow = go(feed__shuffle="once", epochs=1, feed__loading="per-image")
    alike = weights(slow) == pytest.approx(weights(fast), abs=1e-4)
    assert alike or decided_by_rounding(fast, 1e-4)


def test_phases_come_in_order_and_are_all_timed() -> None:
    clock = Clock()
    run = go(clock=clock, epochs=2, log_accuracy=True)
    assert clock.entered == ["load", "warmup", "prepare", "train", "log", "train", "evaluate"]
    assert all(run.phases[name] > 0 for name in clock.entered)
    assert run.certified_s == pytest.approx(sum(run.phases[n] for n in ("prepare", "train", "evaluate")))
    assert [epochs for epochs, _ in run.accuracy_by_epoch] == [1.0, 2.0]


def test_times_count_only_if_others_left_the_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = go(epochs=0.1).environment.cores
    for busy, counts in ((None, True), (0.14 * cores, True), (0.16 * cores, False), (2.0 * cores, False)):
        monkeypatch.setattr("hotlap.engine.loop.Contention.cores", lambda _, busy=busy: busy)
        run = go(epochs=0.1)
        assert (run.contention, run.timing_valid) == (busy, counts)


def test_stopping_at_a_target_measures_after_every_epoch_on_the_clock() -> None:
    clock = Clock()
    run = go(clock=clock, stop_at=0.3, epochs=9)
    assert run.epochs_run < 9
    assert run.accuracy is not None
    assert run.accuracy >= 0.3
    assert clock.entered[3:] == ["train", "evaluate"] * len(run.accuracy_by_epoch)
    never = go(stop_at=1.0, epochs=2, optimizer__lr=1e-9)
    assert (never.epochs_run, len(never.accuracy_by_epoch)) == (2.0, 2)


def test_a_fraction_of_an_epoch_ends_in_mid_epoch() -> None:
    assert go(epochs=1.5).steps == 12
    assert go(epochs=0.01).steps == 1


def test_the_last_partial_batch_is_kept_or_dropped() -> None:
    assert go(batch_size=100, epochs=1).steps == 6
    assert go(batch_size=100, epochs=1, feed__drop_last=True).steps == 5


def test_warm_up_leaves_no_trace() -> None:
    """What is trained equals a network initialised from the stream and trained without any warm-up."""
    from hotlap.engine.native_trainer import NativeTrainer
    from hotlap.engine.torch_trainer import TorchTrainer

    with pytest.MonkeyPatch.context() as patch:
        for trainer in (TorchTrainer, NativeTrainer):
            patch.setattr(trainer, "warm_up", lambda *args: None)
        cold = go(3)
    assert torch.equal(weights(go(3)), weights(cold))


def test_divergence_is_a_failed_run_with_a_reason() -> None:
    run = go(optimizer__lr=1e30, epochs=2)
    assert (run.status, run.accuracy, run.reached) == ("failed", None, False)
    assert run.error is not None
    assert "stopped being a finite number at step" in run.error
    assert "--set optimizer.lr" in run.error


@needs_compiler
def test_compiled_and_eager_agree() -> None:
    eager, compiled = go(epochs=1), go(epochs=1, engine__compile=True)
    alike = weights(compiled) == pytest.approx(weights(eager), abs=1e-3)
    alike = alike and compiled.accuracy == pytest.approx(eager.accuracy, abs=0.05)
    assert alike or decided_by_rounding(eager, 1e-3)


def test_failing_compilation_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    import hotlap.engine.program as program

    def broken(images: torch.Tensor) -> torch.Tensor:
        raise InvalidCxxCompiler

    monkeypatch.setattr(program, "forward_of", lambda network, recipe, precision: broken)
    with pytest.raises(InputError, match=r"torch\.compile does not work here: .* → go without it: --no-compile"):
        go(engine__compile=True)
    monkeypatch.setattr("test_loop.BACKEND", "torch")
    with pytest.raises(InvalidCxxCompiler):
        go()


def test_recipes_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(InputError, match=r"512 training images, less than one batch of 1000"):
        go(batch_size=1000, feed__drop_last=True)
    with pytest.raises(InputError, match=r"feed.mean has 3 values, synthetic has 1 channels"):
        go(feed__mean=(0.1, 0.2, 0.3))
    with pytest.raises(InputError, match="too small"):
        go(model__kernels=(11, 3))
    with pytest.raises(InputError, match="per-image feed has no augmentation"):
        go(feed__loading="per-image", augment=[{"name": "flip", "share": 0.5}])

    def missing() -> ImageData:
        raise DataError("gone")

    with pytest.raises(DataError, match="gone"):
        train_once(tiny(), missing, 0, device=CPU)
