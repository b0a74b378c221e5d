"""Precision: what is asked for, what the device gives, and what a run says of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hotlap import datasets
from hotlap.engine import precision
from hotlap.engine.loop import Silent, train_once
from hotlap.engine.precision import convert, precision_of, remark_on, weights_dtype
from hotlap.errors import InputError
from hotlap.optim import NO_LOSS_SCALE, OPTIMIZERS
from hotlap.optim.weights import weights_of
from hotlap.recipe import part
from tiny import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


@pytest.mark.parametrize(
    ("asked", "device", "given"),
    [
        ("fp32", CPU, "fp32"), ("bf16", CPU, "bf16"), ("fp16", CPU, "fp32"),
        ("fp32", CUDA, "fp32"), ("bf16", CUDA, "bf16"), ("fp16", CUDA, "fp16"), ("auto", CUDA, "fp16"),
    ],
)  # fmt: skip
def test_what_a_device_gives(asked: str, device: torch.device, given: str) -> None:
    assert precision_of(tiny(engine__precision=asked), device) == given


def test_auto_on_a_gpu_is_what_the_optimizer_can_do_with() -> None:
    adadelta = part("adadelta", lr=1.0, rho=0.9, eps=1e-6)
    assert precision_of(tiny(engine__precision="auto", optimizer=adadelta), CUDA) == "bf16"
    by_shape = part("by-shape", matrices=part("adam", lr=0.01, betas=(0.9, 0.99), eps=1e-8), others=adadelta)
    assert precision_of(tiny(engine__precision="auto", optimizer=by_shape), CUDA) == "bf16"


def test_what_refuses_float16_is_listed() -> None:
    weights = weights_of(nn.Linear(2, 2), 8, loss_scale=8.0)
    for name, options in (
        ("adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6}),
        ("adam", {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-8}),
        ("sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0}),
    ):
        refused = False
        try:
            OPTIMIZERS.build(part(name, **options), params=weights)
        except InputError:
            refused = True
        assert refused == (name in NO_LOSS_SCALE)


def test_what_auto_is_can_be_settled_for_a_cpu() -> None:
    recipe = tiny(engine__precision="auto")
    for settled in ("bf16", "fp32"):
        with precision.auto_on_cpu(settled):  # type: ignore[arg-type]
            assert precision_of(recipe, CPU) == settled
            assert precision_of(recipe, CUDA) == "fp16"
            assert precision_of(tiny(engine__precision="fp32"), CPU) == "fp32"
            with precision.auto_on_cpu(None):
                assert precision_of(recipe, CPU) in ("bf16", "fp32")


@pytest.mark.parametrize(("fast", "given"), [(True, "bf16"), (False, "fp32")])
def test_auto_on_a_cpu_follows_its_instructions(fast: bool, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast, raising=False)
    assert precision_of(tiny(engine__precision="auto"), CPU) == given
    assert remark_on(tiny(engine__precision="auto"), CPU) is None
    # Winograd's algorithm makes more of float32 than these instructions do.
    assert precision_of(tiny(engine__precision="auto", engine__winograd=True), CPU) == "fp32"


def test_matrix_registers_are_faster_than_winograds_algorithm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True, raising=False)
    assert precision_of(tiny(engine__precision="auto", engine__winograd=True), CPU) == "bf16"


def test_float16_on_a_cpu_runs_in_float32_and_says_so() -> None:
    said: list[str] = []

    class _Listens(Silent):
        def remark(self, text: str) -> None:
            said.append(text)

    def load() -> datasets.ImageData:
        return datasets.load("synthetic", **tiny().data.options)

    half = train_once(tiny(engine__precision="fp16"), load, 0, device=CPU, observer=_Listens())
    full = train_once(tiny(), load, 0, device=CPU)
    assert half.loss_by_epoch == full.loss_by_epoch
    assert (half.precision, full.precision) == ("fp32", "fp32")
    assert said == ["tiny is written for float16, which is slow on a CPU: it runs in float32"]
    assert train_once(tiny(engine__precision="bf16"), load, 0, device=CPU).precision == "bf16"


def test_float16_weights_leave_normalisation_alone() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    network(torch.randn(2, 1, 8, 8))
    convert(network, "fp16")
    assert {name: p.dtype for name, p in network.named_parameters()} == {
        "0.weight": torch.float16, "0.bias": torch.float16, "1.weight": torch.float32, "1.bias": torch.float32,
        "3.weight": torch.float16, "3.bias": torch.float16,
    }  # fmt: skip
    assert weights_dtype("fp16") is torch.float16
    assert weights_dtype("bf16") is torch.float32


def test_float16_trains_where_it_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a GPU, on the CPU: weights and images in float16 learn like those in float32, roughly."""
    import hotlap.engine.feed as feed
    import hotlap.engine.program as program

    for module in (precision, feed, program):
        monkeypatch.setattr(module, "precision_of", lambda recipe, device: "fp16")

    def load() -> datasets.ImageData:
        return datasets.load("synthetic", **tiny().data.options)

    recipe = tiny(optimizer={"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0})
    half = train_once(recipe, load, 0, device=CPU, backend="torch")
    monkeypatch.undo()
    full = train_once(recipe, load, 0, device=CPU, backend="torch")
    assert half.precision == "fp16"
    assert {p.dtype for p in half.module.parameters()} == {torch.float16}
    assert half.loss_by_epoch[0] == pytest.approx(full.loss_by_epoch[0], rel=0.02)
