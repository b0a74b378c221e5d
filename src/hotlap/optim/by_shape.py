"""Two optimizers as one: matrices have the one, biases and the head the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from hotlap.optim import OPTIMIZERS
from hotlap.optim.by_role import ByRole
from hotlap.optim.weights import Weights
from hotlap.recipe import Component
from hotlap.registry import Card


@OPTIMIZERS.register(
    "by-shape",
    Card(
        does="Gives weights of 2 dimensions or more one optimizer, and biases and the head another.",
        effect="Lets Muon train matrices and Adam the rest, as Muon is meant to be used.",
        source="Jordan et al. 2024 (Muon).",
    ),
)
def by_shape(*, params: Weights, matrices: Component, rest: Component, scales: Sequence[float]) -> ByRole:
    """Build the optimizers.

    Matrices of one scale share an optimizer, so that one that works on all its weights at once still does.

    Args:
        params: the parameters with their roles; a kind without any needs no optimizer. The last layer is the head
            where the network says so, and a matrix like others where it does not.
        matrices: optimizer of the weights with two or more dimensions, less the head's.
        rest: optimizer of all others.
        scales: for each matrix, in the network's order, the factor of the learning rate of ``matrices``; empty for
            factors of 1.

    Raises:
        InputError: a part cannot be built.
        ValueError: there is nothing to train, not as many scales as matrices, or a negative one.
    """
    if not params:
        raise ValueError("there is nothing to train")
    head = {id(p) for p in params.by_role["head"]}
    found = [p for p in params if p.ndim >= 2 and id(p) not in head]
    factors = tuple(scales) or (1.0,) * len(found)
    if len(factors) != len(found):
        raise ValueError(f"scales has {len(factors)} factors, the network has {len(found)} matrices besides the head")
    if any(factor < 0 for factor in factors):
        raise ValueError(f"scales must not be negative, not {factors}")
    by_factor: dict[float, list[nn.Parameter]] = {}
    for factor, matrix in zip(factors, found, strict=True):
        by_factor.setdefault(factor, []).append(matrix)
    parts: list[torch.optim.Optimizer] = []
    for factor, some in by_factor.items():
        part = OPTIMIZERS.build(matrices, params=params.only(some))
        for group in part.param_groups:
            group["lr"] *= factor
        parts.append(part)
    taken = {id(p) for p in found}
    if others := params.only(p for p in params if id(p) not in taken):
        parts.append(OPTIMIZERS.build(rest, params=others))
    none = [None] * len(parts)
    return ByRole(parts, none, none)
