"""A small network chooses the images of a batch; it learns from some of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hotlap.engine.seeding import generator
from hotlap.errors import InputError
from hotlap.recipe import Component, part
from hotlap.techniques import SELECTIONS
from hotlap.techniques.proxy import Proxy

EMPTY = part("none")


class _Brightness:
    """Finds bright images hard; notes what it is told to learn."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(()))
        self.steps: list[tuple[float, int, int, int]] = []
        self.recorded: list[bool] = []

    def losses(self, images: Tensor, labels: Tensor) -> Tensor:
        self.recorded.append(torch.is_grad_enabled())
        return images.float().mean((1, 2, 3)) * self.weight

    def update(self, loss: Tensor, step: int, total: int, per_epoch: int) -> None:
        loss.backward()
        self.steps.append((loss.item(), step, total, per_epoch))

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight.detach().clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight.data = state["weight"]


@pytest.mark.parametrize("shape", [(9, 1, 5, 7), (8, 3, 6, 6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_hardest_images_are_kept(
    shape: tuple[int, ...], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    images = torch.randn(shape, generator=generator(1)).to(dtype).contiguous(memory_format=memory_format)
    before = images.clone()
    chosen = Proxy(_Brightness(), keep=4, train_every=2).choose(images, torch.zeros(len(images)), 1, 10, 5)
    order = images.float().mean((1, 2, 3)).argsort(descending=True)
    assert chosen.dtype == torch.int64
    assert set(chosen.tolist()) == set(order[:4].tolist())
    assert torch.equal(images, before)


def test_a_smaller_batch_is_kept_whole() -> None:
    assert sorted(Proxy(_Brightness(), 4, 1).choose(torch.rand(3, 1, 2, 2), torch.zeros(3), 0, 1, 1).tolist()) == [
        0,
        1,
        2,
    ]


def test_it_learns_every_so_many_batches_from_what_is_kept() -> None:
    learner = _Brightness()
    proxy = Proxy(learner, keep=2, train_every=4)
    images = torch.tensor([1.0, 4.0, 2.0, 3.0]).view(4, 1, 1, 1)
    for step in range(9):
        proxy.choose(images, torch.zeros(4), step, 9, 3)
    assert learner.recorded == [step % 4 == 0 for step in range(9)], "no gradients where it does not learn"
    # The losses of the two kept images over all four: as if the others had none.
    assert learner.steps == [((4 + 3) / 4, step, 9, 3) for step in (0, 4, 8)]


def test_its_state_is_that_of_its_network() -> None:
    learner = _Brightness()
    learner.weight.data = torch.tensor(3.0)
    other = _Brightness()
    Proxy(other, 1, 1).load_state_dict(Proxy(learner, 1, 1).state_dict())
    assert other.weight.item() == 3


def build(**options: int) -> Any:
    seen: list[tuple[Component, ...]] = []

    def learner(*parts: Component) -> _Brightness:
        seen.append(parts)
        return _Brightness()

    component = part("proxy", model=EMPTY, optimizer=EMPTY, schedule=EMPTY, **options)
    built = SELECTIONS.build(component, learner=learner)
    assert seen == [(EMPTY, EMPTY, EMPTY)]
    return built


def test_options_are_checked() -> None:
    assert isinstance(build(keep=1, train_every=1), Proxy)
    for options in ({"keep": 0, "train_every": 1}, {"keep": 1, "train_every": 0}):
        with pytest.raises(InputError, match="keep and train_every are at least 1"):
            build(**options)
