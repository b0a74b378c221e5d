"""What an inspection counts, what it says, and what it leaves out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from hotlap.datasets.base import image_data
from hotlap.datasets.inspection import Inspection, inspection_of
from hotlap.datasets.spec import Seen


def inspected(labels: list[int], tests: list[int], *, copies: dict[str, Any] | None = None, **seen: Any) -> Inspection:
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (len(labels), 1, 5, 5), np.uint8),
        "x_test": rng.integers(0, 256, (len(tests), 1, 5, 5), np.uint8),
        "y_train": np.array(labels, np.uint8),
        "y_test": np.array(tests, np.uint8),
    }
    for to, source in (copies or {}).items():
        split, at = to.split(".")
        arrays[f"x_{split}"][int(at)] = arrays["x_train"][source]
    return inspection_of(image_data("mine", arrays, ["cat", "dog"]), Seen(**seen))


def test_what_is_as_it_should_be_takes_two_lines() -> None:
    found = inspected([0, 1, 0, 1], [0, 1])
    assert found.lines() == (
        "mine: 4 grey training images of 5×5 pixels in 2 classes; 2 test images",
        "training images by class: cat 2, dog 2",
    )


def test_imbalance_is_told_from_twice_on() -> None:
    assert "times" not in inspected([0, 0, 0, 1, 1], [0, 1]).lines()[1]
    found = inspected([0, 0, 1], [0, 1])
    assert found.imbalance == 2
    assert "the largest class is 2 times the smallest" in found.lines()[1]


def test_copies_within_training_and_between_the_splits() -> None:
    found = inspected([0, 1, 0, 1], [0, 1], copies={"train.2": 0, "test.1": 1})
    assert (found.duplicates.train, found.duplicates.test, found.duplicates.labels) == (1, 1, 0)
    assert any(line.startswith("test images that are among the training images too: 1 of 2") for line in found.lines())
    assert "exact copies among the 4 training images: 1" in found.lines()


def test_one_image_under_two_labels() -> None:
    found = inspected([0, 1, 0, 1], [0, 1], copies={"train.1": 0, "test.1": 0})
    assert found.duplicates.labels == 1
    assert found.lines()[-1] == "images found under more than one class, so that a label must be wrong: 1"


def test_what_the_reader_met() -> None:
    found = inspected(
        [0, 1], [0, 0], sizes=(((9, 8), 3), ((7, 7), 1)), ignored=2, unreadable=("a.png is damaged",), held_out=2
    )
    assert "no test set, so 2 more images" in found.lines()[0]
    assert found.lines()[2:] == (
        "images found of 9×8 (3), 7×7 (1); resized to 5×5",
        "no test images of dog",
        "images left out that cannot be read, 1: a.png is damaged",
        "other files, ignored: 2",
    )


def test_many_classes_and_sizes_are_shortened() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(20).astype(np.uint8)
    arrays = {name: rng.integers(0, 256, (20, 3, 4, 4), np.uint8) for name in ("x_train", "x_test")}
    data = image_data("many", {**arrays, "y_train": labels, "y_test": labels}, [f"c{i}" for i in range(20)])
    sizes = tuple(((i, i), 1) for i in range(1, 8))
    lines = inspection_of(data, Seen(sizes=sizes)).lines()
    assert "colour" in lines[0]
    assert lines[1].count(",") == 8
    assert "and 3 more sizes" in lines[2]


@pytest.mark.parametrize("size", [(5, 5), (6, 6)])
def test_sizes_are_told_when_images_were_resized(size: tuple[int, int]) -> None:
    found = inspected([0, 1], [0, 1], sizes=((size, 4),))
    assert any("resized" in line for line in found.lines()) == (size != (5, 5))


def test_facts_are_json() -> None:
    document = json.loads(json.dumps(inspected([0, 0, 1], [0, 1], sizes=(((5, 5), 5),)).as_dict()))
    assert document["classes"] == {"cat": 2, "dog": 1}
    assert document["duplicates"] == {"train": 0, "test_in_train": 0, "under_several_labels": 0}
    assert document["held_out"] is None and document["imbalance"] == 2.0
