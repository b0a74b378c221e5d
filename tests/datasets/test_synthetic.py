from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hotlap import datasets
from hotlap.datasets import ImageData
from hotlap.errors import DataError, InputError


def ridge_accuracy(data: ImageData) -> float:
    """Share of test images that a linear classifier gets right."""

    def features(x: np.ndarray) -> np.ndarray:
        return np.c_[x.reshape(len(x), -1) / 255 - 0.5, np.ones(len(x))]

    a, target = features(data.x_train), np.eye(data.classes)[data.y_train]
    weight = np.linalg.solve(a.T @ a + 10 * np.eye(a.shape[1]), a.T @ target)
    return float((np.argmax(features(data.x_test) @ weight, 1) == data.y_test).mean())


def test_defaults() -> None:
    data = datasets.load("synthetic")
    assert data.x_train.shape == (1000, 1, 28, 28) and data.x_test.shape == (200, 1, 28, 28)
    assert data.x_train.min() == 0 and data.x_train.max() == 255
    assert np.bincount(data.y_train).tolist() == [100] * 10
    assert len(np.unique(data.y_train[:50])) > 5  # not sorted by class
    assert ridge_accuracy(data) > 0.97


def test_the_bytes_are_the_same_everywhere() -> None:
    small = datasets.load("synthetic", train=50, test=20, size=(9, 7), channels=3, classes=4, seed=7)
    assert small.digest == "9cd97c314615a60bda74a2549975ff27b0e85fb88d735e06e58d16cd561360dd"


def test_seed_and_parts_are_independent() -> None:
    one, two = (datasets.load("synthetic", seed=seed) for seed in (0, 1))
    assert one.digest != two.digest
    longer = datasets.load("synthetic", train=2000)
    assert np.array_equal(longer.x_test, one.x_test) and np.array_equal(longer.y_test, one.y_test)
    assert not np.array_equal(one.x_train[:200], one.x_test)


def test_more_noise_is_harder() -> None:
    hard = ridge_accuracy(datasets.load("synthetic", train=300, noise=4))
    assert 0.1 < hard < ridge_accuracy(datasets.load("synthetic", train=300, noise=0.5))


def test_no_noise_gives_the_patterns() -> None:
    data = datasets.load("synthetic", size=8, train=200, noise=0, classes=2)
    assert len(np.unique(data.x_train[data.y_train == 0], axis=0)) <= 9  # one pattern, shifted by at most one pixel


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"size": 1}, (1, 1, 1)),
        ({"size": [3, 33], "channels": 2}, (2, 3, 33)),
        ({"size": (31, 5), "channels": 3}, (3, 31, 5)),
        ({"train": 1, "test": 1}, (1, 28, 28)),
    ],
)
def test_odd_sizes(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    data = datasets.load("synthetic", **options)
    assert data.x_train.shape[1:] == data.x_test.shape[1:] == shape


def test_many_classes_have_wide_labels() -> None:
    data = datasets.load("synthetic", classes=300, size=6, train=600)
    assert data.y_train.dtype == np.int32 and data.classes == 300 and data.y_train.max() == 299


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": 0}, "train must be a whole number at least 1, not 0"),
        ({"train": 1.5}, "train must be"),
        ({"test": True}, "test must be"),
        ({"size": "28"}, "size must be"),
        ({"size": [1, 2, 3]}, "size must be"),
        ({"size": [0, 2]}, "size must be"),
        ({"classes": 1}, "classes must be"),
        ({"noise": float("nan")}, "noise must be"),
        ({"noise": -0.1}, "noise must be"),
        ({"seed": -1}, "seed must be"),
        ({"sead": 1}, "unknown option for synthetic 'sead' → did you mean 'seed'"),
    ],
)
def test_options_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        datasets.load("synthetic", **options)


def test_more_than_the_memory_is_refused_first() -> None:
    with pytest.raises(DataError, match="GB of memory"):
        datasets.load("synthetic", train=10**9, size=1000)
