"""PyTorch data sets of pairs, written to a file that ``data=`` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from hotlap import datasets
from hotlap.errors import DataError

pytestmark = pytest.mark.usefixtures("root")


def pairs(count: int = 12, *, channels: int = 3) -> TensorDataset:
    images = torch.randint(0, 256, (count, channels, 6, 8), generator=torch.Generator().manual_seed(0))
    return TensorDataset(images.to(torch.uint8), torch.arange(count) % 2)


def load(path: Path) -> datasets.ImageData:
    return datasets.load("arrays", path=str(path))


def test_tensors_keep_their_pixels_and_get_names() -> None:
    train = pairs()
    path = datasets.from_torch(train, pairs(4), class_names=["dog", "cat"])
    data = load(path)
    known = {image.numpy().tobytes(): ("dog", "cat")[label] for image, label in train}
    found = {i.tobytes(): data.class_names[label] for i, label in zip(data.x_train, data.y_train, strict=True)}
    assert found == known and len(found) == 12
    assert len(data.x_test) == 4


def test_the_same_content_is_the_same_file() -> None:
    path = datasets.from_torch(pairs())
    assert datasets.from_torch(pairs()) == path != datasets.from_torch(pairs(14))
    assert len(load(path).x_test) == 2
    assert [file.suffix for file in path.parent.iterdir()] == [".npz", ".npz"]


def test_pictures_arrays_and_fractions(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (10, 6, 8, 3), np.uint8)
    as_pictures = [(Image.fromarray(image), at % 2) for at, image in enumerate(pixels)]
    as_arrays = [(image, at % 2) for at, image in enumerate(pixels)]
    fractions = [(torch.tensor(image).permute(2, 0, 1) / 255, torch.tensor(at % 2)) for at, image in enumerate(pixels)]
    digests = {load(datasets.from_torch(kind)).digest for kind in (as_pictures, as_arrays, fractions)}
    assert len(digests) == 1
    assert datasets.from_torch(as_arrays, path=tmp_path / "mine") == tmp_path / "mine.npz"
    grey = [(image[..., 0], at % 2) for at, image in enumerate(pixels)]
    assert load(datasets.from_torch(grey)).channels == 1


class Named(list[tuple[Any, int]]):
    """Pairs of a set that knows the names of its classes, as torchvision's are."""

    def __init__(self, labels: str, classes: list[Any]) -> None:
        super().__init__((np.full((5, 5), 20 * ord(name) % 251, np.uint8), classes.index(name)) for name in labels)
        self.classes = classes


def test_classes_are_matched_by_name() -> None:
    train, test = Named("abcabc", ["a", "b", "c"]), Named("acca", ["a", "c"])
    data = load(datasets.from_torch(train, test))
    shown = {int(image[0, 0, 0]): label for image, label in zip(data.x_train, data.y_train, strict=True)}
    assert data.class_names == ("a", "b", "c") and len(shown) == 3
    assert [data.class_names[label] for label in data.y_test] == list("acca")
    assert all(shown[int(image[0, 0, 0])] == label for image, label in zip(data.x_test, data.y_test, strict=True))
    with pytest.raises(DataError, match="other classes than the train set"):
        datasets.from_torch(train, test, class_names=["x", "y", "z"])
    with pytest.raises(DataError, match="y_train lacks: d"):
        load(datasets.from_torch(train, Named("da", ["a", "d"])))


def test_names_of_one_of_the_sets_serve_both_or_none() -> None:
    train, plain = Named("abab", ["a", "b"]), list(Named("ab", ["a", "b"]))
    assert load(datasets.from_torch(train, plain)).class_names == ("a", "b")
    assert load(datasets.from_torch(list(train), Named("ab", ["a", "b"]))).class_names == ("0", "1")
    assert load(datasets.from_torch(train, plain, class_names=["x", "y"])).class_names == ("x", "y")


def test_synonyms_make_one_name_and_numbers_are_names_too() -> None:
    train = Named("abab", ["a", "b"])
    train.classes = [("crane", "bird"), ("dog",)]
    assert load(datasets.from_torch(train)).class_names == ("crane, bird", "dog")
    train.classes = [3, 7]
    assert load(datasets.from_torch(train)).class_names == ("3", "7")


@pytest.mark.parametrize(
    ("train", "names", "message"),
    [
        ([(torch.zeros(1, 4, 4), at) for at in range(3)], ["crane", "dog", "crane"], "two classes are called 'crane'"),
        (Named("ab", ["a", "b", "a"]), None, "two classes are called 'a'"),
        ([], None, "has no pairs"),
        ([torch.zeros(1, 4, 4)], None, "is no pair"),
        ([(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 5, 4), 1)], None, "train image 1 is float32"),
        ([(torch.zeros(4), 0)], None, "must have height"),
        ([(torch.zeros(1, 4, 4), 2)] * 3, ["a", "b"], "labels 2 to 2 for 2 class names"),
        ([(torch.full((1, 4, 4), -1.0), 0)] * 2, None, "values from -1"),
    ],
)
def test_what_cannot_be_used_is_told(train: Any, names: list[str] | None, message: str) -> None:
    with pytest.raises(DataError, match=message):
        datasets.from_torch(train, class_names=names)
