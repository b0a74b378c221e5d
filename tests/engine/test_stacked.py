"""Several seeds in one program give what each gives alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hotlap import datasets
from hotlap.engine.loop import train_seeds
from hotlap.engine.stacked import put, stack, take
from hotlap.errors import InputError
from hotlap.recipe import Recipe
from hotlap.result import Run
from rounding import decides_weights
from tiny import tiny

CPU = torch.device("cpu")


def go(seeds: list[int], **changes: Any) -> list[Run]:
    return trained(tiny(**changes), seeds)


def trained(recipe: Recipe, seeds: list[int], **options: Any) -> list[Run]:
    return train_seeds(recipe, lambda: datasets.load("synthetic", **recipe.data.options), seeds, device=CPU, **options)


def decided_by_rounding(run: Run, most: float) -> bool:
    """Whether rounding alone takes this run, trained alone, as far as ``most`` from where it ends."""
    return decides_weights(lambda: weights(trained(run.recipe, [run.seed], backend="torch")[0]), most)


def weights(run: Run) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in run.module.parameters()])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"feed__shuffle": "once", "feed__drop_last": True, "batch_size": 100},
        {"augment": [{"name": "translate", "max_px": 1}, {"name": "flip", "share": 0.5}], "label_smoothing": 0.2},
        {"engine__memory_format": "channels_last"},
        {"data__channels": 3, "data__classes": 7},
        {"optimizer": {"name": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}},
        {"optimizer": {"name": "adadelta", "lr": 1.0, "rho": 0.9, "eps": 1e-6}},
    ],
    ids=str,
)
def test_each_seed_equals_its_run_alone(changes: dict[str, Any]) -> None:
    together = go([3, 1, 2], epochs=1, **changes)
    assert [run.seed for run in together] == [3, 1, 2]
    for run in together:
        alone = go([run.seed], epochs=1, **changes)[0]
        alike = (
            run.loss_by_epoch == pytest.approx(alone.loss_by_epoch, rel=1e-4)
            and weights(run) == pytest.approx(weights(alone), abs=2e-4)
            and run.accuracy == pytest.approx(alone.accuracy, abs=2 / 256)
        )
        assert alike or decided_by_rounding(run, 2e-4)
        assert (run.steps, run.epochs_run, run.data_digest) == (alone.steps, alone.epochs_run, alone.data_digest)
    assert not torch.equal(weights(together[0]), weights(together[1]))


def test_its_times_are_shares_that_do_not_count() -> None:
    run = go([0, 1], epochs=1)[0]
    assert (run.timing_valid, run.seeds_at_once, run.phases["warmup"] < 0.5) == (False, 2, True)
    assert Run.from_dict(run.to_dict()).seeds_at_once == 2


def test_a_seed_that_diverges_leaves_the_others_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import hotlap.engine.program as program

    real = program.initialise

    def poisoned(network: nn.Module, seed: int) -> None:
        from hotlap.engine.seeding import Streams

        real(network, seed)
        if seed == Streams.of(1).init:
            with torch.no_grad():
                next(network.parameters()).fill_(float("nan"))

    monkeypatch.setattr(program, "initialise", poisoned)
    good, bad, other = go([0, 1, 2], epochs=2)
    monkeypatch.undo()
    assert (bad.status, bad.accuracy) == ("failed", None)
    assert "stopped being a finite number at step 1" in (bad.error or "")
    for run in (good, other):
        alone = go([run.seed], epochs=2)[0]
        alike = run.accuracy == pytest.approx(alone.accuracy, abs=2 / 256)
        alike = alike and run.loss_by_epoch == pytest.approx(alone.loss_by_epoch, rel=1e-3)
        assert alike or decided_by_rounding(run, 2e-4)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model__hidden_dropout": 0.5}, r"layer hidden_dropout \(Dropout\) draws noise that the seeds would share"),
        ({"stop_at": 0.5}, "stops at an epoch of its own"),
        ({"feed__loading": "per-image"}, r"per-image feed → --set feed\.loading=device"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError, match=why):
        go([0, 1], **changes)


def test_a_layer_that_mixes_channels_is_refused_by_name() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(nn.Softmax2d()))
    with pytest.raises(InputError, match=r"layer 1\.0 \(Softmax2d\) is not made for it"):
        stack(network, 2)


def _network(channels: int, classes: int, *, norm: bool, groups: int, bias: bool) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(channels, 6, 3, padding=1, stride=2, bias=bias)]
    layers += [nn.BatchNorm2d(6)] if norm else []
    layers += [nn.GELU(), nn.Conv2d(6, 4, 2, groups=groups), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.LazyLinear(classes, bias=bias))


@settings(max_examples=20)
@given(
    seeds=st.integers(2, 4),
    channels=st.integers(1, 3),
    classes=st.integers(2, 5),
    norm=st.booleans(),
    groups=st.sampled_from([1, 2]),
    bias=st.booleans(),
    size=st.integers(8, 13),
    training=st.booleans(),
)
def test_a_stack_is_its_members(
    seeds: int, channels: int, classes: int, norm: bool, groups: int, bias: bool, size: int, training: bool
) -> None:
    """Outputs, gradients and running statistics equal those of each member on its own images."""
    torch.manual_seed(0)
    images = torch.randn(5, seeds, channels, size, size)
    members = []
    for k in range(seeds):
        member = _network(channels, classes, norm=norm, groups=groups, bias=bias)
        member(images[:, k])
        members.append(member)
    stacked = stack(members[0], seeds)
    for k, member in enumerate(members):
        put(stacked, member, k, seeds)
    stacked.train(training)
    out = stacked(images.flatten(1, 2)).view(5, seeds, classes)
    out.square().sum().backward()
    for k, member in enumerate(members):
        member.train(training)
        alone = member(images[:, k])
        assert torch.allclose(out[:, k], alone, atol=1e-5)
        alone.square().sum().backward()
        wide, narrow = dict(stacked.named_parameters()), dict(member.named_parameters())
        for name, parameter in narrow.items():
            gradient = wide[name].grad
            assert gradient is not None
            assert parameter.grad is not None
            assert torch.allclose(gradient.view(seeds, *parameter.shape)[k], parameter.grad, rtol=1e-3, atol=1e-4)
        taken = _network(channels, classes, norm=norm, groups=groups, bias=bias)
        taken(images[:, k])
        take(stacked, taken, k, seeds)
        for a, b in zip(taken.state_dict().values(), member.state_dict().values(), strict=True):
            assert torch.allclose(a, b, atol=1e-5)
