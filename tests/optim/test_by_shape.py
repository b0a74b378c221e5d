"""Matrices with one optimizer, everything else with another; and Muon's polynomials of its own for each iteration."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hotlap.engine.updates import Updates
from hotlap.errors import InputError
from hotlap.optim import OPTIMIZERS, STACKABLE
from hotlap.optim.muon import COEFFICIENTS, POLAR_COEFFICIENTS, orthogonalise
from hotlap.optim.weights import Weights, weights_of
from hotlap.recipe import Component, part
from tiny import tiny

MUON = {"lr": 0.1, "momentum": 0.7, "nesterov": True, "steps": 3, "renormalise_every": 0, "batched": False}
POLAR = part("muon-polar", **MUON, dtype="fp32")
ADAM = part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    vars(network[5])["role"] = "head"
    return network


def by_shape(**changes: Any) -> Component:
    return part("by-shape", **{"matrices": POLAR, "rest": ADAM, "scales": (), **changes})


def built(network: nn.Module, **changes: Any) -> Any:
    return OPTIMIZERS.build(by_shape(**changes), params=weights_of(network, 4))


def names(network: nn.Module, group: dict[str, Any]) -> list[str]:
    by_id = {id(p): name for name, p in network.named_parameters()}
    return [by_id[id(p)] for p in group["params"]]


def test_matrices_but_the_heads_have_the_one_and_all_else_the_other() -> None:
    network = net()
    groups = built(network).param_groups
    assert [names(network, group) for group in groups] == [
        ["0.weight", "3.weight"], ["0.bias", "3.bias", "5.weight", "5.bias"]
    ]  # fmt: skip
    assert [group["lr"] for group in groups] == [0.1, 0.01]


def test_each_matrix_has_its_own_factor_of_the_learning_rate() -> None:
    network = net()
    groups = built(network, scales=(0.5, 2.0)).param_groups
    assert [(names(network, group), group["lr"]) for group in groups[:2]] == [(["0.weight"], 0.05), (["3.weight"], 0.2)]
    assert [names(network, group) for group in built(network, scales=(3, 3)).param_groups] == [
        names(network, group) for group in built(network).param_groups
    ]


def test_every_part_follows_the_schedule_and_moves_as_it_would_alone() -> None:
    torch.manual_seed(1)
    images, labels = torch.randn(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    together, alone = net(), net()
    scheduled = tiny(optimizer=by_shape(scales=(0.5, 2.0)), schedule=part("linear", epochs=None))
    updates = Updates(scheduled, weights_of(together, 4))
    weights = weights_of(alone, 4)
    matrices = [alone.get_parameter(name) for name in ("0.weight", "3.weight")]
    singles = [OPTIMIZERS.build(POLAR, params=weights.only([matrix])) for matrix in matrices]
    rest = OPTIMIZERS.build(ADAM, params=weights.only(set(weights) - set(matrices)))
    for step in range(4):
        for network in (together, alone):
            network.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
        updates.step(step, 4, 4)
        factor = 1 - step / 4
        for optimizer, lr in zip((*singles, rest), (0.05, 0.2, 0.01), strict=True):
            optimizer.param_groups[0]["lr"] = lr * factor
            optimizer.step()
    for (name, p), q, start in zip(together.named_parameters(), alone.parameters(), net().parameters(), strict=True):
        assert torch.equal(p, q), name
        assert not torch.equal(p, start), name


def test_a_network_without_a_head_or_without_matrices() -> None:
    plain = nn.Linear(4, 3)
    assert [names(plain, group) for group in built(plain).param_groups] == [["weight"], ["bias"]]
    norm = nn.LayerNorm(4)
    assert [names(norm, group) for group in built(norm).param_groups] == [["weight", "bias"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scales": (1.0,)}, "scales has 1 factors, the network has 2 matrices besides the head"),
        ({"scales": (1.0, -0.5)}, "must not be negative"),
        ({"rest": POLAR}, "two or more dimensions"),
        ({"matrices": part("muon-poler")}, "did you mean 'muon-polar'"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        built(net(), **changes)
    with pytest.raises(InputError, match="nothing to train"):
        built(net().requires_grad_(False))


def test_neither_is_for_several_seeds_in_one_tensor() -> None:
    assert not {"muon-polar", "by-shape"} & STACKABLE


def test_polar_polynomials_come_nearer_to_one_and_reach_smaller_singular_values() -> None:
    torch.manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(size, 24)).Q for size in (24, 60))
    matrix = (u * torch.logspace(0, -3, 24)) @ v.T
    muons = torch.linalg.svdvals(orthogonalise(matrix[None], (COEFFICIENTS,) * 5, 0))[0]
    polar = torch.linalg.svdvals(orthogonalise(matrix[None], POLAR_COEFFICIENTS, 0))[0]
    assert (polar - 1).abs().max() < 0.5 < (muons - 1).abs().max()
    assert (polar - 1).abs().mean() < (muons - 1).abs().mean()


@pytest.mark.parametrize("steps", [1, 3, 5, 7])
def test_polar_steps_are_the_first_polynomials_and_the_last_again_and_again(steps: int) -> None:
    weight = nn.Parameter(torch.randn(6, 9))
    weights = Weights({"filters": [weight], "norm": [], "whitening": [], "head": []}, [weight], 4)

    def coefficients(name: str) -> tuple[Any, ...]:
        options = {**POLAR.options, "steps": steps}
        found: tuple[Any, ...] = OPTIMIZERS.build(part(name, **options), params=weights).param_groups[0]["coefficients"]
        return found

    expected = [POLAR_COEFFICIENTS[min(i, 4)] for i in range(steps)]
    assert coefficients("muon-polar") == tuple(expected)
    assert coefficients("muon") == (COEFFICIENTS,) * steps
    with pytest.raises(InputError, match="steps of at least 1"):
        OPTIMIZERS.build(part("muon-polar", **{**POLAR.options, "steps": 0}), params=weights)
