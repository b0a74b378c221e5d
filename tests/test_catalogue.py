"""Every technique has a card, is found by its name, and knows which recipes have it."""

from __future__ import annotations

import importlib
import json
import re

import pytest

from hotlap import cli
from hotlap.catalogue import KINDS, SETTINGS, Technique, technique, techniques
from hotlap.errors import InputError
from hotlap.ladder import get_recipe, recipes
from hotlap.recipe import paths

EVERY = list(techniques().values())


@pytest.mark.parametrize("one", EVERY, ids=lambda one: one.name)
def test_every_technique_has_a_card_and_code(one: Technique) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", one.name)
    assert one.kind in KINDS
    assert len(one.card.does) > 20 and one.card.does.endswith(".")
    assert one.card.effect and one.card.source
    module, _, name = one.where.rpartition(".")
    while True:
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, rest = module.rpartition(".")
            name = f"{rest}.{name}"
            continue
        break
    for attribute in name.split("."):
        found = getattr(found, attribute)
    assert found.__doc__


def test_names_are_all_different() -> None:
    registered = sum(len(list(registry)) for _, registry in KINDS.values() if registry is not None)
    assert len(EVERY) == registered + len(SETTINGS)


@pytest.mark.parametrize("one", SETTINGS, ids=lambda one: one.name)
def test_settings_are_had_by_some_recipes_and_not_by_others(one: Technique) -> None:
    having = [recipe for recipe in recipes().values() if one.used_by(recipe)]
    assert 0 < len(having) < len(recipes())
    written = {path.rpartition(".")[2] for recipe in having for path in paths(recipe)}
    assert {path.rpartition(".")[2] for path in one.options} <= written, "a path that recipes have"


@pytest.mark.parametrize(
    ("before", "after", "brought_in"),
    [
        ("cifar10-page/2-pool-first", "cifar10-page/3-label-smoothing", {"label-smoothing"}),
        ("cifar10-page/1-gpu-preprocessing", "cifar10-page/2-pool-first", {"pool-before-norm"}),
        ("cifar10-page/3-label-smoothing", "cifar10-page/4-celu", {"celu"}),
        ("cifar10-page/4-celu", "cifar10-page/5-ghost-batch-norm", {"ghost-batch-norm"}),
        ("cifar10-page/5-ghost-batch-norm", "cifar10-page/6-frozen-bn-scale", {"frozen-norm-scale", "bias-groups"}),
        ("cifar10-page/6-frozen-bn-scale", "cifar10-page/7-patch-whitening", {"patch-whitening", "patches"}),
        ("cifar10-page/7-patch-whitening", "cifar10-page/8-ema", {"ema"}),
        ("cifar10-page/8-ema", "cifar10-page/9-flip-tta", {"mirror"}),
        (
            "cifar10-airbench/94",
            "cifar10-airbench/94-muon",
            {"muon", "linear", "unit-std-head", "weight-renormalisation"},
        ),
        ("cifar10-airbench/94-muon", "cifar10-airbench/94-batched-muon", {"batched-muon"}),
        ("cifar10-airbench/94-muon", "cifar10-airbench/94-silu", {"silu"}),
        ("cifar10-airbench/95", "cifar10-airbench/96-faster", {"proxy", "cutout"}),
        ("mnist/2-smaller-network", "mnist/3-data-on-device", {"data-on-device"}),
    ],
)
def test_rungs_bring_in_what_they_are_named_after(before: str, after: str, brought_in: set[str]) -> None:
    without, having = get_recipe(before), get_recipe(after)
    found = {one.name for one in EVERY if one.used_by(having) and not one.used_by(without)}
    assert found == brought_in & {one.name for one in EVERY}


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="cutout"):
        technique("cutuot")


def test_explain_lists_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^\s+{re.escape(one.name)}\s", shown, re.MULTILINE) for one in EVERY)
    assert "hotlap explain NAME" in shown
    assert cli.run(["explain", "--json"]) == 0
    assert [one["technique"] for one in json.loads(capsys.readouterr().out)] == [one.name for one in EVERY]


def test_explain_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "cutout"]) == 0
    shown = capsys.readouterr().out
    card = technique("cutout").card
    assert card.does in shown and f"Source: {card.source}" in shown and "cifar10-airbench/96" in shown
    assert "Options: size" in shown
    assert cli.run(["explain", "ghost-batch-norm", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["options"] == ["model.norm_splits"]
    assert document["recipes"][0].startswith("cifar10-page") and "cifar10-airbench/94" not in document["recipes"]
    assert cli.run(["explain", "cutuot"]) == 2
    assert "did you mean" in capsys.readouterr().err
