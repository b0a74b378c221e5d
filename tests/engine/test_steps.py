"""Recorded training steps, rehearsed by a recorder that calls what it records, as a GPU would repeat it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters as dynamo_counters

from hotlap import datasets
from hotlap.engine import network as network_module
from hotlap.engine import steps as steps_module
from hotlap.engine import torch_trainer
from hotlap.engine.backends import make_trainer
from hotlap.engine.loop import train_once
from hotlap.engine.program import Program
from hotlap.engine.steps import EagerSteps, RecordedSteps, dummy_batch, make_steps, planned_steps
from hotlap.engine.updates import Updates
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part, paths
from hotlap.result import Run
from rehearsing import Counting, rehearse
from tiny import tiny

CPU = torch.device("cpu")


SGD = part("sgd", lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)
MUON = get_recipe("cifar10-airbench/94-hiverge")
SMALL = MUON.with_changes(
    {
        "data": part("synthetic", train=256, test=64, size=12, channels=3, classes=4, seed=0, noise=0.2),
        "feed.mean": None, "feed.std": None, "model.widths": (8, 8), "batch_size": 32, "epochs": 2.0,
        "optimizer.whitening_schedule": part("linear", epochs=1.0), "evaluation.batch_size": 32,
        "engine.precision": "fp32",
    }
)  # fmt: skip
RECIPES = {
    "sgd": tiny(optimizer=SGD),
    "adam": tiny(optimizer=part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8)),
    "adadelta": tiny(optimizer=part("adadelta", lr=1.0, rho=0.9, eps=1e-6)),
    "a partial last batch": tiny(optimizer=SGD, batch_size=100, feed__drop_last=False),
    "an average that is copied back": tiny(
        optimizer=SGD, averaging=part("lookahead", decay=0.95, every=2, power=3.0), epochs=3.0
    ),
    "mixing": tiny(optimizer=SGD, mixing=part("cutmix", size=4, last_epochs=1.0)),
    "muon": SMALL,
    "low resolution first": SMALL.with_changes({"augment": (part("shrink", until=(0.5,), sides=(8,)),)}),
}  # fmt: skip


def trained(recipe: Recipe, monkeypatch: pytest.MonkeyPatch, recorder: Counting | None) -> Run:
    # The recorder is the steps' alone: evaluations are not counted.
    monkeypatch.setattr(torch_trainer, "make_steps", lambda *args: make_steps(*args[:-1], recorder))
    load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
    return train_once(recipe, load, 3, device=CPU, backend="torch")


@pytest.mark.parametrize("name", RECIPES)
def test_recorded_steps_train_as_steps_operation_by_operation_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES[name]
    recorder = Counting()
    plain, recorded = trained(recipe, monkeypatch, None), trained(recipe, monkeypatch, recorder)
    assert recorder.repetitions == recorded.steps == plain.steps, "every step was foreseen"
    assert recorder.recordings < recorded.steps
    assert plain.module is not None and recorded.module is not None
    for a, b in zip(plain.module.state_dict().values(), recorded.module.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert recorded.loss_by_epoch == pytest.approx(plain.loss_by_epoch, rel=1e-4)


def test_there_is_a_recording_for_each_kind_of_step(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Counting()
    trained(RECIPES["muon"], monkeypatch, recorder)
    assert recorder.recordings == 4, "renormalising or not, and with the whitening bias or without it"
    recorder = Counting()
    trained(RECIPES["low resolution first"], monkeypatch, recorder)
    assert recorder.recordings == 4, "the whitening bias ends with the small images"


def test_a_warm_up_that_was_interrupted_is_completed() -> None:
    class Interrupted(Counting):
        def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
            if self.recordings == 2 and not self.stopped:
                self.stopped = True
                raise KeyboardInterrupt
            return super().__call__(work)

        stopped = False

    recorder = Interrupted()
    steps = RecordedSteps(RECIPES["muon"], Program(RECIPES["muon"], (3, 12, 12), 4, CPU, 1), CPU, recorder)
    with pytest.raises(KeyboardInterrupt):
        steps.warm_up(256)
    for _ in range(2):
        steps.warm_up(256)
        assert recorder.recordings == 4


def test_a_second_run_records_nothing_and_equals_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = RECIPES["muon"]
    data = datasets.load(recipe.data.name, **recipe.data.options)
    recorder = Counting()
    program = Program(recipe, (3, 12, 12), 4, CPU, 1)
    steps = RecordedSteps(recipe, program, CPU, recorder)

    def run() -> list[float]:
        steps.warm_up(len(data.x_train))
        torch.manual_seed(0)
        for module in program.network.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
        steps.begin()
        images, labels = torch.randn(32, 3, 12, 12), torch.arange(32) % 4
        return [float(steps((images, labels), 1.0, done, 32, 8)) for done in range(32)]

    first = run()
    made = recorder.recordings
    assert run() == first
    assert recorder.recordings == made


def grey() -> Recipe:
    return tiny(batch_size=50, engine__compile=True, engine__memory_format="channels_last")


def smaller_first() -> Recipe:
    data = part("synthetic", train=130, test=60, size=32, channels=3, classes=4, seed=0, noise=0.2)
    changes = {"data": data, "model.widths": (8, 8, 8), "batch_size": 50, "feed.drop_last": False}
    return get_recipe("cifar10/record").with_changes({**changes, "engine.precision": "fp32"})


@pytest.mark.parametrize("recipe", [grey(), smaller_first()], ids=["grey", "smaller first"])
def test_all_code_is_compiled_during_warm_up(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are not full, smaller images and the evaluation included."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    recipe = recipe.with_changes({"epochs": 3.0})
    data = datasets.load("synthetic", **recipe.data.options)
    assert len(data.x_train) % recipe.batch_size and not recipe.feed.drop_last
    trainer = make_trainer(recipe, data, [0], torch.device("cpu"), "torch")
    trainer.warm_up(len(data.x_train), len(data.x_test))
    compiled = dynamo_counters["stats"]["unique_graphs"]
    trainer.prepare(data)
    total = 3 * trainer.steps_per_epoch
    for start in range(0, total, trainer.steps_per_epoch):
        for _ in trainer.epoch(start, total):
            pass
    trainer.measure()
    assert dynamo_counters["stats"]["unique_graphs"] == compiled > 0


def selecting() -> Recipe:
    """Each batch of 40 images is cut down to the 16 that a small network finds hardest."""
    recipe = get_recipe("cifar10-airbench/96-faster")
    small = part("synthetic", train=100, test=40, size=32, channels=3, classes=4, seed=0, noise=0.2)
    changes = {"data": small, "batch_size": 40, "feed.drop_last": False, "selection.keep": 16}
    narrow = {path: (8,) * len(value) for path, value in paths(recipe).items() if path.endswith("widths")}  # type: ignore[arg-type]
    return recipe.with_changes({**changes, **narrow, "engine.precision": "fp32"})


@pytest.mark.parametrize("recipe", [grey(), smaller_first(), selecting()], ids=["grey", "smaller first", "selection"])
def test_every_shape_that_a_network_meets_is_warmed_up(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the main network and of a selection's own, training and evaluating."""
    seen: set[tuple[str, bool, torch.Size]] = set()

    def watching(network: torch.nn.Module) -> Callable[[Tensor], Tensor]:
        def watched(images: Tensor) -> Tensor:
            parameters = sum(weight.numel() for weight in network.parameters())
            seen.add((f"network of {parameters}", network.training, images.shape))
            return network(images)  # type: ignore[no-any-return]

        return watched

    monkeypatch.setattr(network_module, "_compiled", watching)
    recipe = recipe.with_changes({"epochs": 3.0, "engine.compile": True})
    data = datasets.load("synthetic", **recipe.data.options)
    trainer = make_trainer(recipe, data, [0], CPU, "torch")
    trainer.warm_up(len(data.x_train), len(data.x_test))
    warmed = set(seen)
    seen.clear()
    trainer.prepare(data)
    total = 3 * trainer.steps_per_epoch
    for start in range(0, total, trainer.steps_per_epoch):
        for _ in trainer.epoch(start, total):
            pass
    trainer.measure()
    assert len(seen) > 2
    assert seen <= warmed


def test_steps_that_are_not_recorded_are_warmed_up_at_every_shape_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "dummy_batch", lambda *args, **options: dummy_batch(*args[:-1], CPU, **options))
    recipe = smaller_first().with_changes({"engine.cuda_graphs": False, "engine.compile": False})
    program = Program(recipe, (3, 32, 32), 4, CPU, 1)
    met: list[torch.Size] = []
    losses = program.losses
    monkeypatch.setattr(program, "losses", lambda images, labels: (met.append(images.shape), losses(images, labels))[1])
    EagerSteps(recipe, program, CPU).warm_up(130)
    assert [shape[2] for shape in met] == [32, 32], "a CPU has nothing to choose"
    met.clear()
    EagerSteps(recipe, program, torch.device("cuda")).warm_up(130)
    assert {tuple(shape) for shape in met} == {(n, 3, side, side) for n in (50, 30) for side in (24, 32)}


def test_a_step_that_was_not_foreseen_is_taken_all_the_same() -> None:
    recipe = RECIPES["sgd"]
    steps = RecordedSteps(recipe, Program(recipe, (1, 12, 12), 4, CPU, 1), CPU, rehearse)
    steps.begin()
    loss = steps((torch.randn(7, 1, 12, 12), torch.arange(7) % 4), 0.5, 0, 10, 5)
    assert loss.shape == () and not loss.requires_grad


def test_the_optimizer_is_restored_in_place() -> None:
    recipe = RECIPES["muon"]
    program = Program(recipe, (3, 12, 12), 4, CPU, 1)
    updates = Updates(recipe, program.weights(recipe))

    def step(done: int) -> None:
        updates.zero_grad()
        program.losses(torch.randn(8, 3, 12, 12), torch.arange(8) % 4).backward()
        updates.step(done, 10, 5)

    step(0)
    before = {key: (value.data_ptr(), value.clone()) for key, value in updates._state().items()}
    state = {"parts": [dict(part_) for part_ in updates.state_dict()["parts"]]}
    kept = torch.utils._pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, state)
    step(1)
    assert any(not torch.equal(value, before[key][1]) for key, value in updates._state().items())
    updates.load_state_dict(kept)
    for key, value in updates._state().items():
        assert value.data_ptr() == before[key][0]
        assert torch.equal(value, before[key][1])
    updates.forget()
    assert all(not value.any() for value in updates._state().values())


def test_a_cpu_and_a_selection_take_steps_operation_by_operation() -> None:
    recipe = tiny()
    program = Program(recipe, (1, 12, 12), 4, CPU, 1)
    assert isinstance(make_steps(recipe, program, CPU, None), EagerSteps)
    assert isinstance(make_steps(recipe, program, CPU, rehearse), RecordedSteps)
    assert isinstance(make_steps(get_recipe("cifar10-airbench/96-faster"), program, CPU, rehearse), EagerSteps)


def test_planned_steps() -> None:
    assert planned_steps(tiny(epochs=1.0), 7) == 7
    assert planned_steps(tiny(epochs=0.01), 7) == 1
    assert planned_steps(tiny(epochs=1.5), 7) == 11


def test_a_program_used_again_trains_weights_that_had_stopped_being_trained() -> None:
    recipe = SMALL.with_changes({"engine.cuda_graphs": False})
    program = Program(recipe, (3, 12, 12), 4, CPU, 1)
    steps = EagerSteps(recipe, program, CPU)
    bias = program.network.get_parameter("whiten.bias")
    for _ in range(2):
        steps.begin()
        before = bias.detach().clone()
        steps((torch.randn(8, 3, 12, 12), torch.arange(8) % 4), 1.0, 0, 16, 8)
        assert not torch.equal(bias, before)
        steps((torch.randn(8, 3, 12, 12), torch.arange(8) % 4), 1.0, 8, 16, 8)
        assert not bias.requires_grad
