"""The scikit-learn classifier: scikit-learn's own checks, and what images add to them."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import hotlap
from hotlap import ImageClassifier, datasets
from hotlap.errors import DivergenceError, HotlapError
from hotlap.estimator import EXPECTED_FAILED_CHECKS
from hotlap.ladder import get_recipe
from hotlap.recipe import part
from hotlap.saved import load, write
from tiny import SYNTHETIC, tiny

# A network for images of 12 pixels needs no more room.
SMALL: dict[str, Any] = {"recipe": tiny(), "min_side": 12, "device": "cpu", "random_state": 0}


@pytest.fixture(scope="module")
def images() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    data = datasets.load(SYNTHETIC.name, **SYNTHETIC.options)
    return data.x_train.transpose(0, 2, 3, 1), np.array(["bird", "cat", "deer", "dog"])[data.y_train]


def test_scikit_learns_own_checks_pass_but_for_those_that_are_named() -> None:
    results = check_estimator(
        ImageClassifier(min_steps=40, **SMALL), expected_failed_checks=dict(EXPECTED_FAILED_CHECKS), on_skip=None
    )
    not_passed = {result["check_name"] for result in results if result["status"] != "passed"}
    assert not_passed <= set(EXPECTED_FAILED_CHECKS)
    assert len(results) > 50


def test_labels_of_any_kind_come_back(images: Any) -> None:
    X, y = images
    classifier = ImageClassifier(**SMALL, min_steps=30).fit(X[:300], y[:300])
    assert list(classifier.classes_) == ["bird", "cat", "deer", "dog"]
    assert classifier.predict(X[300:302]).dtype.kind == "U"
    assert classifier.score(X[300:], y[300:]) > 0.9
    assert not hasattr(classifier, "n_features_in_")
    proba = classifier.predict_proba(X[300:])
    assert (classifier.classes_[proba.argmax(1)] == classifier.predict(X[300:])).all()
    numbers = ImageClassifier(**SMALL, epochs=1).fit(X[:100], np.unique(y[:100], return_inverse=True)[1] * 7 - 3)
    assert list(numbers.classes_) == [-3, 4, 11, 18]


def test_one_random_state_gives_one_network(images: Any) -> None:
    X, y = images[0][:200], images[1][:200]
    first, again, other = (
        ImageClassifier(**{**SMALL, "random_state": state}, epochs=1).fit(X, y).predict_proba(X) for state in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    drawn = [
        ImageClassifier(**{**SMALL, "random_state": np.random.RandomState(5)}, epochs=1).fit(X, y).model_.facts.seed
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]


def test_bytes_and_fractions_are_the_same_images(images: Any) -> None:
    X, y = images[0][:200], images[1][:200]
    classifier = ImageClassifier(**SMALL, epochs=1).fit(X, y)
    proba = classifier.predict_proba(X)
    assert (classifier.predict_proba(X / 255) == proba).all()
    assert (classifier.predict_proba(X[..., 0].astype(np.int64)) == proba).all()
    assert classifier.predict_proba(X > 127).shape == (200, 4)


def test_a_pickled_classifier_holds_a_file_and_answers_as_before(images: Any, tmp_path: Path) -> None:
    X, y = images[0][:200], images[1][:200]
    classifier = ImageClassifier(**SMALL, epochs=1).fit(X, y)
    pickled = pickle.dumps(classifier)
    assert b"__metadata__" in pickled
    assert b"torch" not in pickled
    assert (pickle.loads(pickled).predict_proba(X) == classifier.predict_proba(X)).all()
    model = load(write(classifier.model_, tmp_path / "m.safetensors"), device="cpu")
    assert model.facts.classes == ("bird", "cat", "deer", "dog")
    assert model.facts.accuracy is None


def test_searches_pipelines_and_cross_validation(images: Any) -> None:
    X, y = images[0][:240], images[1][:240]
    base = ImageClassifier(**SMALL, epochs=2)
    assert len(cross_val_score(base, X, y, cv=2)) == 2
    search = GridSearchCV(clone(base), {"changes": [{"optimizer.lr": 0.01}, {"optimizer.lr": 1e-9}]}, cv=2).fit(X, y)
    assert search.best_params_ == {"changes": {"optimizer.lr": 0.01}}
    rows = X.reshape(len(X), -1)
    pipeline = make_pipeline(MinMaxScaler(), clone(base)).fit(rows, y)
    assert pipeline[-1].image_shape_ == (12, 12, 1)
    assert pipeline.score(rows, y) > 0.5


def test_the_default_learns_scikit_learns_digits() -> None:
    X, y = load_digits(return_X_y=True)
    classifier = ImageClassifier(random_state=0, device="cpu", threads=1, min_steps=30).fit(X[:1000], y[:1000])
    assert classifier.n_features_in_ == 64
    assert classifier.image_shape_ == (8, 8, 1)
    assert classifier.score(X[1000:], y[1000:]) > 0.85


@pytest.mark.parametrize(
    ("features", "asked", "shape"),
    [
        (784, None, (28, 28, 1)),
        (3072, None, (32, 32, 3)),
        (12, None, (2, 2, 3)),
        (7, None, (1, 7, 1)),
        (1, None, (1, 1, 1)),
        (12, (3, 4), (3, 4, 1)),
        (24, (3, 4, 2), (3, 4, 2)),
    ],
)
def test_rows_become_squares_where_they_can(features: int, asked: Any, shape: Any) -> None:
    from hotlap.estimator import _shape_of_rows

    assert _shape_of_rows(features, asked) == shape


def test_what_cannot_be_used_is_refused_with_its_reason(images: Any) -> None:
    X, y = images[0][:50], images[1][:50]
    fitted = ImageClassifier(**SMALL, epochs=1).fit(X, y)
    rows = ImageClassifier(**SMALL, epochs=1).fit(X.reshape(50, -1), y)
    for call, message in (
        (lambda c: c.fit(X.astype(int) + 1, y), "from 1 to 256; images of that type hold 0 to 255"),
        (lambda c: c.fit(X - 0.5, y), "images of that type hold 0 to 1"),
        (lambda c: c.fit(np.full(X.shape, np.nan), y), "from nan to nan"),
        (lambda c: c.fit(X.astype(complex), y), "holds complex128"),
        (lambda c: c.fit(X[:0], y[:0]), "empty"),
        (lambda c: c.fit(X.transpose(0, 3, 1, 2), y), "channels come last"),
        (lambda c: c.fit(X, y[:-1]), "50 images, y has 49 labels"),
        (lambda c: c.fit(X, np.arange(50) / 7), "continuous"),
        (lambda c: c.fit(X, np.zeros(50)), "1 class"),
        (lambda c: c.set_params(image_shape=(5, 5)).fit(X.reshape(50, -1), y), "image_shape is"),
        (lambda c: fitted.predict(X[:, :11]), "fitted to"),
        (lambda c: fitted.predict(X.reshape(50, -1)), "fitted to images"),
        (lambda c: rows.predict(X), "dim 4|expected <= 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call(ImageClassifier(**SMALL))
    with pytest.raises(NotFittedError):
        ImageClassifier().predict(X)
    with pytest.raises(HotlapError, match="unknown recipe"):
        ImageClassifier("mnits").fit(X, y)
    with pytest.raises(DivergenceError):
        ImageClassifier(**SMALL, changes={"optimizer.lr": 1e30}).fit(X, y)


def test_a_recipe_that_stops_on_test_accuracy_trains_to_its_end(images: Any) -> None:
    X, y = images[0][:100], images[1][:100]
    changes = {"stop_at": 0.1, "feed.drop_last": True, "batch_size": 128}
    classifier = ImageClassifier(**SMALL, changes=changes, min_steps=7).fit(X, y)
    assert classifier.recipe_.stop_at is None
    assert classifier.recipe_.epochs == 7


def test_importing_hotlap_imports_neither_scikit_learn_nor_torch() -> None:
    code = "import sys, hotlap; assert not {'sklearn', 'torch'} & set(sys.modules); hotlap.ImageClassifier"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=120).returncode == 0
    without = (
        "import sys; sys.modules['sklearn'] = None; import hotlap\n"
        "try: hotlap.ImageClassifier\n"
        "except hotlap.InputError as error: assert \"pip install 'hotlap[sklearn]'\" in str(error)\n"
        "else: raise SystemExit(1)"
    )
    assert subprocess.run([sys.executable, "-c", without], check=False, timeout=120).returncode == 0
    assert "ImageClassifier" in hotlap.__all__


def test_without_scikit_learn_the_rest_is_there() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import hotlap\n"
        "from hotlap import *\n"
        "assert Recipe is hotlap.Recipe\n"
        "assert not hasattr(hotlap, 'ImageClassifier')\n"
        "import inspect; inspect.getmembers(hotlap)\n"
        "for statement in ('from hotlap import ImageClassifier', 'from hotlap.estimator import ImageClassifier'):\n"
        "    try: exec(statement)\n"
        "    except ImportError as error: assert \"pip install 'hotlap[sklearn]'\" in str(error), error\n"
        "    else: raise SystemExit(1)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=120, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_fit_that_fails_leaves_the_classifier_as_it_was(images: Any) -> None:
    X, y = images[0][:60], images[1][:60]
    rows = X.reshape(len(X), -1)
    for bad_X, bad_y in ((X, np.zeros(60)), (rows, np.zeros(60)), (X, y)):
        classifier = ImageClassifier(**SMALL, changes={"optimizer.lr": 1e30})
        with pytest.raises((ValueError, DivergenceError)):
            classifier.fit(bad_X, bad_y)
        with pytest.raises(NotFittedError):
            classifier.predict(bad_X)
        assert vars(classifier) == classifier.get_params()
    fitted = ImageClassifier(**SMALL, epochs=1).fit(X, y)
    before = fitted.predict_proba(X)
    with pytest.raises(ValueError, match="1 class"):
        fitted.fit(rows, np.zeros(60))
    assert (fitted.predict_proba(X) == before).all()


def test_an_image_is_answered_by_itself(images: Any) -> None:
    """A recipe's views for the least certain of all images would depend on which images are asked together."""
    X, y = images[0][:200], images[1][:200]
    views = part("mirror")
    selective = part("selective", of=part("selective", of=views, share=0.5), share=0.3)
    changes = {"evaluation.augmentation": selective}
    classifier = ImageClassifier(**SMALL, epochs=1, changes=changes).fit(X, y)
    assert classifier.recipe_.evaluation.augmentation == views
    together = classifier.predict_proba(X)
    alone = np.concatenate([classifier.predict_proba(X[at : at + 1]) for at in range(20)])
    np.testing.assert_allclose(alone, together[:20], atol=1e-6)
    assert get_recipe("mnist").evaluation.augmentation.name == "selective", "what mnist stands for has such views"


def test_recipes_that_shrink_images_fit_those_given() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (24, 40, 40, 3), np.uint8), np.arange(24) % 2
    recipe = get_recipe("cifar10/record-cpu").with_changes({"model.widths": [8, 8, 8], "batch_size": 8})
    fitted = ImageClassifier(recipe, epochs=4, device="cpu", random_state=0).fit(X, y)
    assert fitted.recipe_.augment[-1].options["sides"] == (30,)


def test_layers_are_fitted_to_images_of_every_class(images: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from hotlap.engine import loop

    seen = []
    original = loop.train_once

    def noting(recipe: Any, load: Any, *args: Any, **options: Any) -> Any:
        seen.append(load())
        return original(recipe, load, *args, **options)

    monkeypatch.setattr(loop, "train_once", noting)
    order = np.argsort(images[1], kind="stable")
    X, y = images[0][order], images[1][order]
    ImageClassifier(**SMALL, epochs=1).fit(X, y)
    (data,) = seen
    assert len(set(data.y_train[:20].tolist())) == 4
    names = np.array(data.class_names)[data.y_train]
    assert sorted(zip(data.x_train.sum((1, 2, 3)).tolist(), names, strict=True)) == sorted(
        zip(X.sum((1, 2, 3)).tolist(), y, strict=True)
    )
