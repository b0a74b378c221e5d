from __future__ import annotations

import itertools

import pytest

from hotlap.engine.clock import Clock
from hotlap.result import PHASES


class FakeTime:
    """Time that moves only when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_phase_gets_its_own_time_and_repeats_add_up() -> None:
    time = FakeTime()
    clock = Clock(now=time)
    for name, seconds in (("load", 1.0), ("warmup", 2.0), ("prepare", 4.0), ("train", 8.0), ("evaluate", 16.0)):
        with clock.phase(name):
            time.now += seconds
    with clock.phase("train"):
        time.now += 32.0
    time.now += 1000.0
    assert clock.phases == {"load": 1, "warmup": 2, "prepare": 4, "train": 40, "evaluate": 16, "log": 0}
    assert set(clock.phases) == set(PHASES)


def test_the_device_is_waited_for_at_both_borders_inside_the_measurement() -> None:
    time = FakeTime()

    def wait() -> None:
        time.now += 0.5

    clock = Clock(now=time, synchronise=wait)
    with clock.phase("train"):
        time.now += 1.0
    # The wait before the phase belongs to what went before it, the wait after it to the phase itself.
    assert clock.phases["train"] == 1.5


def test_time_is_kept_when_the_block_fails() -> None:
    time = FakeTime()
    clock = Clock(now=time)
    with pytest.raises(KeyError), clock.phase("train"):
        time.now += 3.0
        raise KeyError
    assert clock.phases["train"] == 3.0
    with clock.phase("evaluate"):
        time.now += 1.0
    assert clock.phases["evaluate"] == 1.0


@pytest.mark.parametrize(("late", "early"), list(itertools.combinations(reversed(PHASES[:4]), 2)))
def test_a_phase_before_training_cannot_come_late(late: str, early: str) -> None:
    clock = Clock(now=FakeTime())
    with clock.phase(late):
        pass
    with pytest.raises(RuntimeError, match=f"phase {early} begins after {late}"), clock.phase(early):
        pass


def test_training_evaluation_and_logging_may_alternate() -> None:
    clock = Clock(now=FakeTime())
    order = ["load", "warmup", "prepare", "train", "evaluate", "train", "log", "train", "evaluate"]
    for name in order:
        with clock.phase(name):
            pass
    assert clock.entered == order


def test_phases_do_not_overlap_and_have_known_names() -> None:
    clock = Clock(now=FakeTime())
    with clock.phase("train"), pytest.raises(RuntimeError, match="while train is running"), clock.phase("evaluate"):
        pass
    with pytest.raises(RuntimeError, match="no phase is called 'lunch'"), clock.phase("lunch"):
        pass
