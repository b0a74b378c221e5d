"""A recipe as a scikit-learn classifier: arrays in, labels out, for pipelines, searches and cross-validation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hotlap.errors import DivergenceError, MissingError
from hotlap.recipe import Component, Recipe, part

if TYPE_CHECKING:
    from hotlap.datasets import ImageData

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state, column_or_1d
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as missing:
    raise MissingError("ImageClassifier needs scikit-learn 1.6", "pip install 'hotlap[sklearn]'") from missing


class ImageClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Trains a recipe on arrays; the constructor only stores.

    Images are (N, H, W) or (N, H, W, C): whole numbers from 0 to 255, truth values, or fractions from 0 to 1, in any
    mixture of calls. Rows of numbers (N, features), as other estimators take them, are cut into images: squares where
    their length allows, else lines; their smallest and largest value in ``fit`` become black and white.

    There is no test set in ``fit``: what a recipe measures on one, such as when to stop, is left out. Normalisation
    is that of the images given. An image is answered by itself, whatever else is asked with it: where a recipe gives
    more views to the least certain of all test images, here every image gets those views.

    Args:
        recipe: a recipe, its name, a data set's name for its fastest recipe, or a JSON file.
        changes: dotted path → value, e.g. ``{"optimizer.lr": 0.02}``.
        epochs: passes over the images; None for the recipe's, or as many more as ``min_steps`` asks for.
        min_steps: optimizer steps at least where ``epochs`` is None: recipes are written for many thousand images.
        image_shape: (H, W) or (H, W, C) of rows of numbers; None for a square, grey or else of three channels, or a
            line.
        min_side: pixels of images smaller than this along an axis are repeated along it, for networks that need room.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: threads of one operation; None leaves torch's choice.
        random_state: a whole number is the run's seed, and the same again gives the same network on the same machine;
            None or a generator draws one.

    Attributes:
        classes_: labels, sorted.
        model_: the ``SavedModel``; ``hotlap.saved.write(classifier.model_, path)`` makes a file of it.
        recipe_: what was trained.
        image_shape_: (H, W, C) of the images given.
        value_range_: values of rows that are black and white; None for images.
        n_features_in_: numbers in a row; absent for images.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe = "mnist/8-final",
        *,
        changes: Mapping[str, Any] | None = None,
        epochs: float | None = None,
        min_steps: int = 200,
        image_shape: tuple[int, ...] | None = None,
        min_side: int = 28,
        device: str = "auto",
        threads: int | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.recipe = recipe
        self.changes = changes
        self.epochs = epochs
        self.min_steps = min_steps
        self.image_shape = image_shape
        self.min_side = min_side
        self.device = device
        self.threads = threads
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Train from scratch; an error leaves the classifier as it was before.

        Args:
            X: images or rows, as the class says; not modified.
            y: (N,) labels of any type that can be sorted.

        Raises:
            ValueError: X or y cannot be used.
            HotlapError: the recipe or the device cannot be used, or recipe and images do not go together.
            DivergenceError: the loss stopped being a number.
        """
        before = dict(vars(self))
        try:
            self._fit(X, y)
        except BaseException:
            # Checking the input already notes what it is like; without a network for it that would pass for fitted.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _fit(self, X: ArrayLike, y: ArrayLike) -> None:
        from hotlap.datasets.base import image_data, label_dtype
        from hotlap.datasets.own import shuffled
        from hotlap.engine.devices import choose_device, use_threads
        from hotlap.engine.loop import train_once
        from hotlap.saved.model import SavedModel

        images, labels = self._images_to_fit(X, y)
        classes, numbers = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y has 1 class, {classes.tolist()[0]!r}; training needs at least two")
        pixels = self._enlarged(images).transpose(0, 3, 1, 2)
        numbers = np.asarray(numbers.astype(label_dtype(len(classes))))
        # Layers are fitted to the first images, which sorted ones would all have of one class.
        order = shuffled(len(pixels), 0)
        # The engine ends with an evaluation: it gets a single image, and its answer is not kept.
        one = slice(1)
        arrays: dict[str, NDArray[Any]] = {"x_train": pixels[order], "y_train": numbers[order]}
        arrays |= {"x_test": pixels[one], "y_test": numbers[one]}
        data = image_data("images in memory", arrays, [str(label) for label in classes.tolist()])
        recipe = self._recipe_for(data)
        with use_threads(self.threads):
            run = train_once(recipe, lambda: data, self._seed(), device=choose_device(self.device), timing_valid=False)
        if run.status == "failed":
            raise DivergenceError(run.error or "the run failed", "lower the learning rate")
        self.model_ = SavedModel.of(run, data, tested=False).on(run.device)
        self.classes_ = classes
        self.recipe_ = recipe

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each class of ``classes_``: (N, classes), rows sum to one.

        Args:
            X: like what ``fit`` was given; not modified.

        Raises:
            ValueError: X cannot be used.
            NotFittedError: ``fit`` was not called.
        """
        from hotlap.engine.devices import use_threads

        images = self._images_to_ask(X)
        with use_threads(self.threads):
            proba: NDArray[np.float64] = self.model_.predict_proba(images)
        return proba

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most likely label of each image: (N,), of the type of ``classes_``.

        Args:
            X: like what ``fit`` was given; not modified.

        Raises:
            ValueError: X cannot be used.
            NotFittedError: ``fit`` was not called.
        """
        from hotlap.engine.devices import use_threads

        images = self._images_to_ask(X)
        with use_threads(self.threads):
            labels: NDArray[Any] = self.classes_[self.model_.predict(images)]
        return labels

    def _recipe_for(self, images: ImageData) -> Recipe:
        """Return the recipe with what so many images of their size without a test set ask for."""
        from hotlap.bench.fitting import fitted
        from hotlap.bench.session import resolve_recipe
        from hotlap.engine.network import image_shape

        recipe = resolve_recipe(self.recipe, changes=self.changes, device=self.device)
        if not any(path.partition(".")[0] == "augment" for path in self.changes or {}):
            recipe = fitted(recipe, recipe.data, image_shape(images))
        count = len(images.x_train)
        # Dropping the last partial batch would drop them all.
        drop_last = recipe.feed.drop_last and count >= recipe.batch_size
        steps = count // recipe.batch_size if drop_last else -(-count // recipe.batch_size)
        epochs = max(recipe.epochs, math.ceil(self.min_steps / steps)) if self.epochs is None else self.epochs
        without = {"feed.mean": None, "feed.std": None, "stop_at": None, "target": None}
        data = part("in-memory", images=count)
        changes = {**without, "feed.drop_last": drop_last, "epochs": float(epochs), "data": data}
        changes["evaluation.augmentation"] = _of_each(recipe.evaluation.augmentation)
        return recipe.with_changes(changes, name=f"{recipe.name} on images in memory")

    def _seed(self) -> int:
        if isinstance(self.random_state, Integral) and self.random_state >= 0:
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # -- input --------------------------------------------------------------------------------------------------

    def _images_to_fit(self, X: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        """Check X and y and return images (N, H, W, C) uint8 and labels (N,); sets what is known of X."""
        if _is_images(X):
            images, labels = _to_uint8(np.asarray(X)), column_or_1d(y, warn=True)
            if len(images) != len(labels):
                raise ValueError(f"X has {len(images)} images, y has {len(labels)} labels")
            self.value_range_ = None
            self.image_shape_ = images.shape[1:]
            # Of an earlier fit on rows.
            self.__dict__.pop("n_features_in_", None)
            self.__dict__.pop("feature_names_in_", None)
        else:
            rows, labels = validate_data(self, X, y, dtype="numeric", y_numeric=False)
            self.value_range_ = float(rows.min()), float(rows.max())
            self.image_shape_ = _shape_of_rows(rows.shape[1], self.image_shape)
            images = self._from_rows(rows)
        check_classification_targets(labels)
        return images, labels

    def _images_to_ask(self, X: ArrayLike) -> NDArray[np.uint8]:
        """Check X against what ``fit`` saw and return enlarged images (N, H, W, C) uint8."""
        check_is_fitted(self)
        if self.value_range_ is not None:
            return self._enlarged(self._from_rows(validate_data(self, X, dtype="numeric", reset=False)))
        if not _is_images(X):
            raise ValueError(f"X has shape {np.shape(X)}; the classifier was fitted to images {self.image_shape_}")
        images = _to_uint8(np.asarray(X))
        if images.shape[1:] != self.image_shape_:
            raise ValueError(f"X has images {images.shape[1:]}; the classifier was fitted to {self.image_shape_}")
        return self._enlarged(images)

    def _from_rows(self, rows: NDArray[Any]) -> NDArray[np.uint8]:
        assert self.value_range_ is not None
        low, high = self.value_range_
        share = (rows.astype(np.float64) - low) / ((high - low) or 1.0)
        pixels: NDArray[np.uint8] = np.rint(share.clip(0, 1) * 255).astype(np.uint8)
        return pixels.reshape(len(rows), *self.image_shape_)

    def _enlarged(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        for axis in (1, 2):
            images = images.repeat(-(-self.min_side // images.shape[axis]), axis)
        return images


def _of_each(views: Component | None) -> Component | None:
    """Return views that an image gets whatever other images there are."""
    from hotlap.techniques import VIEWS

    while views is not None and VIEWS.build(views).per_image:
        views = views.options.get("of")
    return views


EXPECTED_FAILED_CHECKS: Mapping[str, str] = {
    "check_array_api_input": "runs only where SCIPY_ARRAY_API is set; torch does the work here, on arrays of NumPy",
}
"""Checks of scikit-learn's ``check_estimator`` that ``ImageClassifier`` does not pass, with the reason of each."""


def _is_images(X: Any) -> bool:
    return np.ndim(X) in (3, 4) if hasattr(X, "ndim") or isinstance(X, list) else False


def _to_uint8(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images (N, H, W, C) uint8; each kind of number has one meaning, whatever the values of the call."""
    if images.size == 0:
        raise ValueError(f"X is empty: {images.shape}")
    images = images[..., None] if images.ndim == 3 else images
    if images.shape[3] not in (1, 3, 4) and images.shape[1] in (1, 3, 4):
        raise ValueError(f"X has shape {images.shape}; channels come last: (N, H, W, C)")
    kind = images.dtype.kind
    if kind not in "buif":
        raise ValueError(f"X holds {images.dtype}; images are whole numbers 0 to 255 or fractions 0 to 1")
    if kind == "b":
        return images.astype(np.uint8) * np.uint8(255)
    limit = 1 if kind == "f" else 255
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= limit):  # not: so that NaN is refused
        raise ValueError(f"X holds {images.dtype} from {low:g} to {high:g}; images of that type hold 0 to {limit}")
    return np.rint(images * 255.0).astype(np.uint8) if kind == "f" else images.astype(np.uint8)


def _shape_of_rows(features: int, asked: tuple[int, ...] | None) -> tuple[int, ...]:
    """Return (H, W, C) of rows of so many numbers."""
    if asked is not None:
        shape = (*asked, 1) if len(asked) == 2 else tuple(asked)
        if len(shape) != 3 or math.prod(shape) != features:
            raise ValueError(f"image_shape is (H, W) or (H, W, C) with {features} numbers, not {asked}")
        return shape
    for channels in (1, 3):
        side = math.isqrt(features // channels)
        if side > 1 and channels * side * side == features:
            return side, side, channels
    return 1, features, 1
