from __future__ import annotations

from collections.abc import Sequence

import pytest

from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.recipe import part
from hotlap.registry import Card, Registry

CARD = Card(does="d", effect="e", source="s")


def test_builders_are_called_with_options_and_context() -> None:
    registry = Registry("thing", "hotlap.techniques", context=("where",))

    @registry.register("one", CARD)
    def one(*, where: str, size: int) -> tuple[str, int]:
        return where, size

    assert registry.build(part("one", size=3), where="here") == ("here", 3)
    assert registry["one"].options == ("size",)
    for component, message in (
        (part("two"), "unknown thing 'two'"),
        (part("one", siz=3), "did you mean 'size'"),
        (part("one"), "needs size as well"),
    ):
        with pytest.raises(InputError, match=message):
            registry.build(component, where="here")


def test_builders_without_defaults_only_and_each_name_once() -> None:
    registry = Registry("thing", "hotlap.techniques")
    with pytest.raises(TypeError, match="keyword-only and without a default"):
        registry.register("bad", CARD)(lambda size=3: size)
    registry.register("good", CARD)(lambda: 1)
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("good", CARD)(lambda: 2)


def test_a_list_is_taken_only_by_options_that_are_lists() -> None:
    registry = Registry("thing", "hotlap.techniques")

    @registry.register("one", CARD)
    def one(*, size: int, side: int | None, depths: int | Sequence[int]) -> object:
        return depths

    assert registry.build(part("one", size=3, side=None, depths=(1, 2))) == (1, 2)
    assert registry.build(part("one", size=3, side=4, depths=1)) == 1
    for option in ("size", "side"):
        with pytest.raises(InputError, match=rf"{option} of thing one is one value, not the list \(1, 2\)"):
            registry.build(part("one", **{"size": 3, "side": 3, "depths": 1, option: (1, 2)}))


def test_a_value_that_a_builder_refuses_is_bad_input() -> None:
    bad = part("conv-stack", widths=(8,), kernels=(3, 3), activations=(True,), pools=(2,), order="pool-activation",
               conv_dropout=0.0, hidden=(), hidden_dropout=0.0)  # fmt: skip
    with pytest.raises(InputError, match="equally long"):
        MODELS.build(bad, shape=(1, 8, 8), classes=2)
    with pytest.raises(InputError, match="order is"):
        MODELS.build(
            part("conv-stack", **{**bad.options, "kernels": (3,), "order": "random"}), shape=(1, 8, 8), classes=2
        )
    with pytest.raises(InputError, match=r"model conv-stack.* cannot be built"):
        MODELS.build(
            part("conv-stack", **{**bad.options, "widths": (8.5,), "kernels": (3,)}), shape=(1, 8, 8), classes=2
        )
