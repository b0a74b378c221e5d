"""What ``hotlap show`` says that published CIFAR-10 recipes cost: arithmetic as published, parameters by hand."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from hotlap import cli

PUBLISHED_PFLOP = {
    "cifar10-airbench/94": 0.36,
    "cifar10-airbench/95": 1.4,
    "cifar10-airbench/96": 4.9,
    "cifar10-airbench/94-muon": 0.29,
}


def groups(widths: tuple[int, ...], convolutions: int) -> int:
    """Filters and norms' biases of groups of 3×3 convolutions after 24 whitened channels."""
    filters = sum(before * after + (convolutions - 1) * after**2 for before, after in pairwise((24, *widths)))
    return 9 * filters + convolutions * sum(widths)


def resnet9(first: int, *, scales: int) -> int:
    """Page's network after the first layer of ``first`` filters; ``scales`` is 2 where norms train their scales too."""
    pairs = ((64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512))
    return first + sum(9 * a * b + scales * b for a, b in pairs) + scales * 64 + 512 * 10


PARAMETERS = {
    "cifar10-page/0-dawnbench": resnet9(27 * 64, scales=2),
    "cifar10-page/6-frozen-bn-scale": resnet9(27 * 64, scales=1),
    # Whitening is not trained; a 1×1 convolution follows it.
    "cifar10-page/7-patch-whitening": resnet9(27 * 64, scales=1),
    "cifar10-page/9-flip-tta": resnet9(27 * 64, scales=1),
    "cifar10-hlb/94": groups((64, 256, 512), 2) + 512 * 10,
    "cifar10-hlb/95.79": groups((128, 512, 1024), 2) + 1024 * 10,
    "cifar10-airbench/94": 24 + groups((64, 256, 256), 2) + 256 * 10,
    "cifar10-airbench/95": 24 + groups((128, 384, 384), 2) + 384 * 10,
    "cifar10-airbench/96": 24 + groups((128, 384, 512), 3) + 512 * 10,
    "cifar10-airbench/96-faster": 24 + groups((128, 384, 512), 3) + 512 * 10,
    "cifar10-airbench/94-muon": 24 + groups((64, 256, 256), 2) + 256 * 10,
}


def shown(name: str, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    assert cli.run(["show", name, "--json"]) == 0
    network: dict[str, int] = json.loads(capsys.readouterr().out)["network"]
    return network


@pytest.mark.parametrize("name", PUBLISHED_PFLOP)
def test_training_costs_what_is_published(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    flop = shown(name, capsys)["recipe_flop"]
    assert flop / 1e15 == pytest.approx(PUBLISHED_PFLOP[name], rel=0.05)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_the_description(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(name, capsys)["parameters"] == PARAMETERS[name]
