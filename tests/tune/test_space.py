from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from tune_helpers import SMALL, small

from hotlap import datasets
from hotlap.errors import InputError
from hotlap.ladder import get_recipe
from hotlap.recipe import Recipe, part
from hotlap.tune.defaults import default_parameter, default_space, parse_parameter
from hotlap.tune.space import Parameter, check_space, read_spec, value_at
from hotlap.tune.validation import build_parts
from tiny import tiny


@pytest.mark.parametrize(
    ("spec", "present", "expected"),
    [
        ("1e-3..1e-1", 0.01, {"kind": "float", "low": 1e-3, "high": 1e-1}),
        ("log:1e-3..1e-1", 0.01, {"kind": "float", "low": 1e-3, "high": 1e-1, "log": True}),
        ("int:16..256", 64, {"kind": "int", "low": 16, "high": 256}),
        ("log-int:64..1024", 64, {"kind": "int", "low": 64, "high": 1024, "log": True}),
        ("16..256", 64, {"kind": "int", "low": 16, "high": 256}),
        ("16..256", 64.0, {"kind": "float", "low": 16, "high": 256}),
        ("16.0..256", 64, {"kind": "float", "low": 16, "high": 256}),
        ("0.1..0.9:0.2", 0.3, {"kind": "float", "low": 0.1, "high": 0.9, "step": 0.2}),
        ("-1..1", 0.3, {"kind": "float", "low": -1, "high": 1}),
        ("cos,linear", "cos", {"kind": "choice", "choices": ("cos", "linear")}),
        ("32,64,32", 64, {"kind": "choice", "choices": (32, 64)}),
        ("true,false", True, {"kind": "choice", "choices": (True, False)}),
        ("0.5", 0.3, {"kind": "choice", "choices": (0.5,)}),
        ("[8,16],[4,8]", (8, 16), {"kind": "choice", "choices": ((8, 16), (4, 8))}),
        ('null,{"name":"a","x":1}', None, {"kind": "choice", "choices": (None, part("a", x=1))}),
    ],
)
def test_specs(spec: str, present: object, expected: dict[str, object]) -> None:
    assert read_spec("p", spec, present) == Parameter(path="p", **expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("spec", "cause"),
    [
        ("int:1.5..3", "no range of whole numbers"),
        ("log:0..1", "logarithmic range is above 0"),
        ("3..1", "no range from a lower to a higher"),
        ("1..1", "no range from a lower to a higher"),
        ("a..b", "no range of numbers"),
        ("", "no range of numbers"),
        ("log:1..4:1", "has no steps"),
        ("0..1:2", "steps of 2 do not fit"),
        ("0..1:0", "steps of 0 do not fit"),
        ("[8,16],x", "no list of JSON values"),
    ],
)
def test_bad_specs_name_the_cause_and_show_good_ones(spec: str, cause: str) -> None:
    with pytest.raises(InputError, match=re.escape(cause)):
        read_spec("p", spec, 1)


@pytest.mark.parametrize(
    ("path", "present", "expected"),
    [
        ("optimizer.lr", 0.01, ("float", 0.001, 0.1, True)),
        ("optimizer.weight_decay", 1e-4, ("float", 1e-5, 1e-3, True)),
        ("optimizer.eps", 1e-8, ("float", 1e-9, 1e-7, True)),
        ("optimizer.betas.0", 0.7, ("float", 0.5, 0.95, False)),
        ("optimizer.momentum", 0.9, ("float", 0.5, 0.95, False)),
        ("optimizer.betas.1", 0.9, ("float", 0.8, 0.999, False)),
        ("optimizer.rho", 0.9, ("float", 0.8, 0.999, False)),
        ("batch_size", 256, ("int", 64, 1024, True)),
        ("label_smoothing", 0.0, ("float", 0.0, 0.3, False)),
        ("schedule.warmup", 0.3, ("float", 0.05, 0.6, False)),
        ("schedule.end_factor", 1e-5, ("float", 1e-6, 1e-4, True)),
        ("augment.0.max_px", 2, ("int", 0, 4, False)),
        ("model.hidden_dropout", 0.0, ("float", 0.0, 0.6, False)),
        ("model.alpha", 0.2, ("float", 0.05, 0.8, True)),
        ("model.widths.0", 24, ("int", 12, 48, True)),
        ("schedule.every_epochs", 1, ("int", 1, 2, True)),
    ],
)
def test_default_ranges(path: str, present: float, expected: tuple[str, float, float, bool]) -> None:
    found = default_parameter(path, present)
    assert (found.kind, found.log) == (expected[0], expected[3])
    assert (found.low, found.high) == pytest.approx(expected[1:3])


def test_a_switch_is_tried_both_ways_and_what_has_no_range_asks_for_one() -> None:
    assert default_parameter("optimizer.nesterov", True).choices == (False, True)
    for present in (0.0, None, "cos", (1, 2)):
        with pytest.raises(InputError, match=r"no default range for optimizer\.x = .* → give one"):
            default_parameter("optimizer.x", present)


def test_the_default_space_is_optimizer_schedule_smoothing_and_batch_size_learning_rate_first() -> None:
    names = [parameter.path for parameter in default_space(get_recipe("mnist/8-final"))]
    assert names[0] == "optimizer.lr"
    assert set(names) == {
        *("optimizer.lr", "optimizer.betas.0", "optimizer.betas.1", "optimizer.eps"),
        *("schedule.warmup", "schedule.start_factor", "schedule.end_factor", "label_smoothing", "batch_size"),
    }
    undecayed = tiny(optimizer=part("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0))
    names = [parameter.path for parameter in default_space(undecayed)]
    assert "optimizer.weight_decay" not in names
    assert "optimizer.nesterov" not in names
    by_role = tiny(optimizer=part("any", filters=part("sgd", bias_scale=2.0, lr=0.1), head=part("sgd", lr=0.2)))
    names = [parameter.path for parameter in default_space(by_role)]
    assert names[:3] == ["optimizer.filters.lr", "optimizer.head.lr", "optimizer.filters.bias_scale"]


def test_paths_are_the_recipes_own() -> None:
    assert value_at(tiny(), "optimizer.betas.1") == 0.99
    assert value_at(tiny(), "optimizer.lr") == 0.01
    with pytest.raises(InputError, match=r"unknown recipe key 'optimizer\.lrr' → did you mean 'optimizer\.lr'"):
        parse_parameter("optimizer.lrr=1..2", tiny())
    for path in ("optimizer.betas.2", "feed", "augment.0.max_px"):
        with pytest.raises(InputError):
            value_at(tiny(), path)


@pytest.mark.parametrize(
    "path",
    ["data.seed", "name", "target", "stop_at", "epochs", "evaluation.batch_size", "engine.compile", "feed.loading"],
)
def test_what_is_no_hyper_parameter_is_refused_with_the_reason(path: str) -> None:
    with pytest.raises(InputError, match=rf"{path} cannot be tuned: .+"):
        parse_parameter(f"{path}=1,2", tiny())


def test_the_rest_of_the_feed_can_be_tuned() -> None:
    assert parse_parameter("feed.shuffle=once,every-epoch", tiny()).choices == ("once", "every-epoch")


def test_values_that_the_recipe_or_its_parts_refuse_are_found_before_anything_trains() -> None:
    data = datasets.load(SMALL.name, **SMALL.options)

    def check(*texts: str) -> None:
        check_space(small(), [parse_parameter(text, small()) for text in texts], lambda r: build_parts(r, data))

    check("optimizer.lr", "optimizer.betas.0", "batch_size", "schedule.shape=cos,linear", "model.widths=[4,8],[8,8]")
    with pytest.raises(InputError, match=r"optimizer\.betas\.1 cannot be 1\.5: optimizer adam.*--param optimizer"):
        check("optimizer.betas.1=0.5..1.5")
    with pytest.raises(InputError, match=r"batch_size cannot be .*: batch_size takes a whole number"):
        check("batch_size=16.0..64.0")
    with pytest.raises(InputError, match="label_smoothing cannot be 1: "):
        check("label_smoothing=0..1")
    with pytest.raises(InputError, match=r"schedule\.shape cannot be coz"):
        check("schedule.shape=cos,coz")
    with pytest.raises(InputError, match="given twice"):
        check("batch_size", "batch_size=8,16")


def test_depth_and_width_can_be_searched_group_by_group() -> None:
    data = part("synthetic", train=60, test=20, size=12, channels=3, classes=4, seed=0, noise=0.2)
    network = get_recipe("cifar10-airbench/94").model
    equal = tiny(data=data, model=part(network.name, **{**network.options, "widths": (8, 12)}))
    built = datasets.load(data.name, **data.options)

    def probes(recipe: Recipe, *texts: str) -> list[object]:
        space = [parse_parameter(text, recipe) for text in texts]
        check_space(recipe, space, lambda r: build_parts(r, built))
        return [(p.path, value_at(recipe, p.path), p.kind, p.choices or (p.low, p.high)) for p in space]

    lists = "model.convolutions=[2,2],[1,2],[2,3]"
    assert probes(equal, lists) == [("model.convolutions", 2, "choice", ((2, 2), (1, 2), (2, 3)))]
    each = equal.with_changes({"model.convolutions": [2, 3]})
    assert probes(each, "model.convolutions.1=1..3", "model.widths.1=log-int:8..24", lists) == [
        ("model.convolutions.1", 3, "int", (1, 3)),
        ("model.widths.1", 12, "int", (8, 24)),
        ("model.convolutions", (2, 3), "choice", ((2, 2), (1, 2), (2, 3))),
    ]
    with pytest.raises(InputError, match=r"model\.convolutions cannot be \(2, 2, 2\): .* 2 widths take one number"):
        probes(equal, "model.convolutions=[2,2],[2,2,2]")
    with pytest.raises(InputError, match=r"model\.convolutions\.0 cannot be 0: .* one convolution in each"):
        probes(each, "model.convolutions.0=0..3")
    with pytest.raises(InputError, match=r"logit_scale cannot be \(1, 2\): "):
        probes(equal, "model.logit_scale=[1,2],1")


def test_building_parts_leaves_the_callers_random_numbers_alone() -> None:
    import torch

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    recipe = small(augment=[{"name": "translate", "max_px": 1}])
    build_parts(recipe, datasets.load(SMALL.name, **SMALL.options))
    assert torch.rand(1) == expected


def test_distributions() -> None:
    assert read_spec("p", "0.1..1:0.2", 0.3).distribution() == FloatDistribution(0.1, 0.9, step=0.2)
    assert read_spec("p", "log:64..1024", 64).distribution() == IntDistribution(64, 1024, log=True)
    choice = read_spec("p", '[8,16],[4,8],"x"', (8, 16))
    assert choice.distribution() == CategoricalDistribution(["[8, 16]", "[4, 8]", "x"])


@given(st.sampled_from(['[8,16],[4,8],"x"', "1,2.5,null,true", '{"name":"a","y":[1]},null', "log:1..9"]), st.data())
def test_what_optuna_stores_is_the_value_again(spec: str, data: st.DataObject) -> None:
    parameter = read_spec("p", spec, 1)
    value = data.draw(st.sampled_from(parameter.choices or (1, 5, 9)))
    stored = parameter.encode(value)
    assert parameter.distribution()._contains(parameter.distribution().to_internal_repr(stored))
    assert parameter.decode(stored) == value


def test_a_parameter_widens_to_include_the_recipes_own_value() -> None:
    wide = read_spec("p", "log:1e-3..1e-2", 0.1).including(0.1)
    assert (wide.low, wide.high, wide.log) == (1e-3, 0.1, True)
    assert read_spec("p", "log:1e-3..1e-2", 0.0).including(0.0).log is False
    assert read_spec("p", "a,b", "c").including("c").choices == ("a", "b", "c")
    assert read_spec("p", "0..1:0.5", 0.3).including(0.3).step is None
    inside = read_spec("p", "1..2", 1.5)
    assert inside.including(1.5) is inside
    with pytest.raises(InputError, match="no number to search around"):
        read_spec("p", "1..2", None).including(None)


def test_steps_are_counted_exactly() -> None:
    assert read_spec("p", "0.1..0.9:0.2", 0.3).grid == (0.1, 0.3, 0.5, 0.7, 0.9)
    assert read_spec("p", "int:0..9:4", 0).grid == (0, 4, 8)
    assert not read_spec("p", "int:0..9:4", 0).contains(5)
    assert read_spec("p", "int:0..9:4", 0).probes == (0, 8, 4)
    assert not read_spec("p", "1..9", 2.0).contains(True)


WHOLE = st.integers(-20, 2000)
NUMBER = st.floats(-10, 2000, allow_nan=False)


@given(st.sampled_from(["float", "int"]), WHOLE, st.integers(1, 500), st.booleans(), st.one_of(WHOLE, NUMBER))
def test_a_range_holds_the_recipes_own_value_or_says_why_not(
    kind: str, low: int, width: int, log: bool, present: float
) -> None:
    log = log and low > 0
    parameter = Parameter(path="p", kind=kind, low=low, high=low + width, log=log)  # type: ignore[arg-type]
    if kind == "int" and not float(present).is_integer():
        with pytest.raises(InputError, match=r"p is .*, which is no whole number to search around"):
            parameter.including(present)
        return
    wide = parameter.including(present)
    assert wide.contains(present)
    assert wide.contains(low) and wide.contains(low + width)
    distribution = wide.distribution()
    assert distribution._contains(distribution.to_internal_repr(wide.encode(present)))
