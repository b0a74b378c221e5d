"""What only a CUDA GPU can show: recorded steps, their independence of the host, and programs used again."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from hotlap import datasets
from hotlap.bench.executors import Job
from hotlap.bench.executors.processes import ProcessExecutor
from hotlap.engine import backends
from hotlap.engine.checkpoint import Checkpoint
from hotlap.engine.loop import Silent, train_once, train_seeds
from hotlap.engine.torch_trainer import TorchTrainer
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part
from hotlap.result import Run
from tiny import tiny

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
    # torch.compile says so of any network in float32; products of matrices are to be exact here.
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores"),
]
GPU = torch.device("cuda", 0)

SYNTHETIC = part("synthetic", train=512, test=128, size=32, channels=3, classes=10, seed=0, noise=0.2)
GREY = part("synthetic", train=512, test=128, size=28, channels=1, classes=10, seed=0, noise=0.2)
NAMES = (
    "cifar10-airbench/94", "cifar10-airbench/94-muon", "cifar10-airbench/94-hiverge", "cifar10-airbench/96-faster",
    "cifar10-hlb/94", "cifar10-page/9-flip-tta", "cifar10-cpu/low-resolution", "mnist/record", "mnist/8-final",
)  # fmt: skip


def small(name: str, **engine: object) -> Recipe:
    recipe = get_recipe(name)
    changes = {"data": GREY if name.startswith("mnist") else SYNTHETIC, "batch_size": 64, "epochs": 3.0}
    changes |= {"selection.keep": 32} if recipe.selection is not None else {}
    return recipe.with_changes(
        {**changes, "evaluation.batch_size": 64, **{f"engine.{key}": value for key, value in engine.items()}}
    )


@dataclass(frozen=True)
class _Losses(Silent):
    """Keeps the losses of the first steps, before rounding has grown."""

    seen: list[torch.Tensor] = field(default_factory=list)

    def step(self, done: int, loss: torch.Tensor) -> None:
        if done <= 6:
            self.seen.append(loss.detach().clone())


def losses(recipe: Recipe, seed: int = 0) -> list[float]:
    watch = _Losses()
    train(recipe, seed, observer=watch)
    return [float(loss) for loss in watch.seen]


def train(recipe: Recipe, seed: int = 0, **options: object) -> Run:
    load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
    return train_once(recipe, load, seed, device=GPU, **options)


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    backends._kept.clear()


@pytest.mark.parametrize("name", NAMES)
def test_recorded_steps_train_as_steps_operation_by_operation_do(name: str) -> None:
    recorded = losses(small(name, precision="fp32"))
    assert recorded == pytest.approx(losses(small(name, precision="fp32", cuda_graphs=False)), rel=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_learns_as_single_precision_does(name: str) -> None:
    half = losses(small(name, precision="fp16" if name.startswith("cifar10") else "bf16"))
    assert half == pytest.approx(losses(small(name, precision="fp32")), rel=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_evaluation_finds_what_one_operation_by_operation_does(name: str) -> None:
    recipe = small(name)
    data = datasets.load(recipe.data.name, **recipe.data.options)
    trainer = backends.make_trainer(recipe, data, [0], GPU, "torch")
    assert isinstance(trainer, TorchTrainer)
    trainer.warm_up(len(data.x_train), len(data.x_test))
    assert trainer._evaluator._recorded, "nothing in it waits for the device"
    trainer.prepare(data)
    for _ in trainer.epoch(0, 24):
        pass
    recorded = trainer.measure()
    trainer._evaluator._recorded.clear()
    # Kernels are chosen anew, and round otherwise: an image or two of 128 may lie on the border.
    assert recorded == pytest.approx(trainer.measure(), abs=2.5 / 128)


class _Watching(Silent):
    """Forbids waiting for the device from the third step to the last."""

    def step(self, done: int, loss: torch.Tensor) -> None:
        if done == 2:
            torch.cuda.set_sync_debug_mode("error")
        if done == self.last:  # type: ignore[attr-defined]
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_training_never_waits_for_the_device(name: str, graphs: bool) -> None:
    recipe = small(name, cuda_graphs=graphs)
    watch = _Watching()
    object.__setattr__(watch, "last", 24)
    try:
        train(recipe, observer=watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_program_used_again_trains_as_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = small("cifar10-airbench/94-muon", precision="fp32")
    first = train(recipe, 0)
    other = train(recipe, 1)
    assert len(backends._kept) == 1
    again = train(recipe, 0)
    assert again.loss_by_epoch == pytest.approx(first.loss_by_epoch, rel=1e-2)
    assert other.loss_by_epoch != pytest.approx(first.loss_by_epoch, rel=1e-6)
    assert first.module is not None and other.module is not None
    assert any(not torch.equal(a, b) for a, b in zip(first.module.parameters(), other.module.parameters(), strict=True))


def test_several_seeds_in_one_program_are_recorded_too() -> None:
    recipe = tiny(epochs=2.0)
    load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
    together = train_seeds(recipe, load, (0, 1, 2), device=GPU)
    alone = [train(recipe, seed) for seed in (0, 1, 2)]
    for a, b in zip(together, alone, strict=True):
        assert a.loss_by_epoch == pytest.approx(b.loss_by_epoch, rel=0.05)


def test_several_seeds_in_one_program_in_bfloat16() -> None:
    recipe = tiny(epochs=2.0, engine__precision="bf16")
    load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
    for run in train_seeds(recipe, load, (0, 1, 2), device=GPU):
        assert run.loss_by_epoch[-1] < run.loss_by_epoch[0]


@pytest.mark.parametrize("fused", [True, False])
def test_an_interrupted_run_goes_on(fused: bool, tmp_path: Path) -> None:
    class Stop(Silent):
        def step(self, done: int, loss: torch.Tensor) -> None:
            if done == 17:
                raise KeyboardInterrupt

    recipe = small("cifar10-airbench/94-muon", precision="fp32", fused=fused)
    whole = train(recipe)

    def checkpoint(resume: bool) -> Checkpoint:
        return Checkpoint(tmp_path / "run.safetensors", {"recipe": recipe.digest}, resume=resume, every_s=0)

    with pytest.raises(KeyboardInterrupt):
        train(recipe, observer=Stop(), checkpoint=checkpoint(False))
    resumed = train(recipe, checkpoint=checkpoint(True))
    assert resumed.loss_by_epoch == pytest.approx(whole.loss_by_epoch, rel=0.02)


def test_too_little_memory_is_said_in_a_line_and_given_back() -> None:
    recipe = small("cifar10-airbench/94-muon", cuda_graphs=False).with_changes({"batch_size": 512})
    # The libraries' own workspaces, which the first product of a process takes for good, are no run's.
    torch.ones(64, 64, device=GPU) @ torch.ones(64, 64, device=GPU)
    before = torch.cuda.memory_allocated(GPU)
    share = 256 * 2**20 / torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(share, GPU)
    try:
        with pytest.raises(InputError, match="too little memory") as refused:
            train(recipe)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert refused.value.fix is not None and "batch_size=256" in refused.value.fix
    del refused
    gc.collect()
    assert torch.cuda.memory_allocated(GPU) <= before + 2**26


def test_a_process_of_its_own_trains_on_the_gpu_that_it_is_given() -> None:
    recipe = small("mnist/8-final", precision="fp32")
    runs = list(ProcessExecutor(1, devices=("cuda:0",)).run(Job(recipe, seed) for seed in range(2)))
    assert [(run.seed, run.device, run.status) for run in runs] == [(0, "cuda:0", "done"), (1, "cuda:0", "done")]
    assert all(run.loss_by_epoch[-1] < run.loss_by_epoch[0] for run in runs)


def test_a_trained_network_answers_on_a_cpu_too() -> None:
    run = train(small("cifar10-airbench/94-muon"))
    assert run.module is not None
    network = run.module.cpu().float().eval()
    with torch.no_grad():
        answers = network(torch.zeros(2, 3, 32, 32).to(memory_format=torch.channels_last))
    assert answers.isfinite().all()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU only")
@pytest.mark.parametrize("graphs", [True, False])
def test_the_second_gpu_trains_as_the_first_does(graphs: bool) -> None:
    recipe = small("cifar10-airbench/94-muon", precision="fp32", cuda_graphs=graphs)
    first = train(recipe)
    load = lambda: datasets.load(recipe.data.name, **recipe.data.options)  # noqa: E731
    second = train_once(recipe, load, 0, device=torch.device("cuda", 1))
    assert second.loss_by_epoch == pytest.approx(first.loss_by_epoch, rel=1e-2)
    assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("name", ["cifar10-airbench/94-muon", "cifar10-cpu/low-resolution"])
def test_compiled_code_is_recorded(name: str) -> None:
    compiled = losses(small(name, compile=True, winograd=False, precision="fp32"))
    assert compiled == pytest.approx(losses(small(name, winograd=False, precision="fp32")), rel=0.02)


@pytest.mark.parametrize("name", ["cifar10-airbench/94-muon", "cifar10-airbench/96", "cifar10-hlb/94"])
@pytest.mark.parametrize("compiled", [False, True])
def test_fused_layers_train_as_pytorchs_own_do(name: str, compiled: bool) -> None:
    options = {"precision": "fp32", "memory_format": "channels_last", "compile": compiled}
    assert losses(small(name, **options)) == pytest.approx(losses(small(name, **options, fused=False)), rel=0.02)
