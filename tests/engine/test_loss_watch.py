"""Mean losses by epoch and seed, and when it is seen that one stopped being a number."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from hotlap.engine import loss_watch
from hotlap.engine.loss_watch import LossWatch

CPU, ELSEWHERE = torch.device("cpu"), torch.device("cuda")


def follow(watch: LossWatch, *epochs: list[list[float]]) -> None:
    """Show it epochs of steps, each the losses of all seeds."""
    step = 0
    for epoch in epochs:
        for losses in epoch:
            step += 1
            watch.see(torch.tensor(losses), step)
        watch.end_epoch(step)


@pytest.mark.parametrize("device", [CPU, ELSEWHERE], ids=str)
def test_each_epoch_has_the_mean_of_its_steps_for_each_seed(device: torch.device) -> None:
    watch = LossWatch(2, device)
    follow(watch, [[1, 10], [3, 20]], [[5, 30]])
    assert watch.by_epoch == [[2, 15], [5, 30]]
    assert watch.errors == [None, None] and watch.some_finite


def test_a_loss_of_one_seed_needs_no_list() -> None:
    watch = LossWatch(1, CPU)
    for step, loss in enumerate((1.0, 2.0), 1):
        watch.see(torch.tensor(loss), step)
    watch.end_epoch(2)
    assert watch.by_epoch == [[1.5]]


def test_a_seed_that_fails_leaves_the_others_alone() -> None:
    watch = LossWatch(2, CPU)
    follow(watch, [[1, 1], [math.nan, 2], [1, 3]])
    first, second = watch.errors
    assert first is not None and "at step 2 " in first + " " and "optimizer.lr" in first
    assert second is None and watch.some_finite
    assert watch.by_epoch[0][1] == 2
    watch.see(torch.tensor([1.0, math.inf]), 4)
    assert not watch.some_finite
    assert "at step 4" in str(watch.errors[1])
    assert watch.errors[0] == first


class _Arrival:
    """An event of a device that is behind."""

    def __init__(self) -> None:
        self.over = self.waited = False

    def query(self) -> bool:
        return self.over

    def synchronize(self) -> None:
        self.over = self.waited = True


def test_sums_that_come_late_are_looked_at_when_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    arrivals: list[_Arrival] = []

    def send(sums: Tensor, count: int, step: int) -> loss_watch._Sent:
        arrivals.append(_Arrival())
        return loss_watch._Sent(sums.clone(), arrivals[-1], count, step)  # type: ignore[arg-type]

    monkeypatch.setattr(loss_watch, "_send", send)
    watch = LossWatch(2, ELSEWHERE)
    follow(watch, [[1, math.nan], [3, 1]], [[5, math.nan]])
    assert watch.some_finite and not any(arrival.waited for arrival in arrivals), "training waited for the device"
    assert watch._errors == [None, None]
    arrivals[0].over = True
    watch.see(torch.tensor([math.inf, 0.0]), 4)
    watch.end_epoch(4)
    assert watch._errors[0] is None and "at step 2" in str(watch._errors[1])
    assert not arrivals[1].waited
    assert "at step 4" in str(watch.errors[0]), "who asks waits"
    assert all(arrival.over for arrival in arrivals) and not watch.some_finite
    assert [epoch[0] for epoch in watch.by_epoch] == [2, 5, math.inf]


def test_the_step_s_own_tensor_is_left_alone() -> None:
    watch, losses = LossWatch(1, ELSEWHERE), torch.tensor([1.0])
    watch.see(losses, 1)
    watch.see(losses, 2)
    assert losses.item() == 1
    watch.end_epoch(2)
    assert watch.by_epoch == [[1]]


@pytest.mark.parametrize("device", [CPU, ELSEWHERE], ids=str)
def test_a_resumed_run_goes_on_with_the_epochs_before(device: torch.device) -> None:
    before, after = LossWatch(2, device), LossWatch(2, device)
    follow(before, [[1, math.nan]])
    after.load_state_dict(before.state_dict())
    follow(after, [[2, 1]])
    assert [epoch[0] for epoch in after.by_epoch] == [1, 2]
    assert after.errors[0] is None and after.errors[1] is not None
