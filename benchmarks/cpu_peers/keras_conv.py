"""The small network in Keras on JAX: ``fit`` with Keras's own Muon, its steps compiled by XLA.

    python benchmarks/cpu_peers/keras_conv.py --data FOLDER --seed 0

Excluded from the time: reading the files, importing, and compiling (a fit on blank images first).
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version

import numpy as np

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import keras
import shared

SETTINGS = {
    "samples": 60_000, "batch": 144, "optimizer": "muon", "lr": 0.02, "adam_ratio": 0.5, "smoothing": 0.05, "warm": 0.1,
    "momentum": 0.7,
}  # fmt: skip
TEST_BATCH = 1000


class Triangle(keras.optimizers.schedules.LearningRateSchedule):
    """Looks the learning rate of every step up in a table."""

    def __init__(self, rates: np.ndarray) -> None:
        self.rates = keras.ops.convert_to_tensor(rates)

    def __call__(self, step: object) -> object:
        last = self.rates.shape[0] - 1
        return keras.ops.take(self.rates, keras.ops.minimum(keras.ops.cast(step, "int32"), last))


def network() -> keras.Model:
    layers = keras.layers
    # PyTorch's default: uniform within one over the square root of the inputs.
    scaled = {"kernel_initializer": keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")}
    return keras.Sequential([
        layers.Input((22, 22, 1), dtype="uint8"),
        # Without subtracting the mean the blank background stays zero.
        layers.Rescaling(1 / 255 / 0.3081),
        layers.Conv2D(16, 3, **scaled), layers.MaxPooling2D(2), layers.ReLU(),
        layers.Conv2D(32, 3, **scaled), layers.MaxPooling2D(2), layers.ReLU(),
        layers.Flatten(), layers.Dense(96, activation="relu", **scaled), layers.Dense(10, name="out", **scaled),
    ])  # fmt: skip


def compiled(settings: dict[str, float], steps: int) -> keras.Model:
    model = network()
    rates = Triangle(settings["lr"] * shared.triangle(steps, settings["warm"], 0.04, 0.02))
    if settings["optimizer"] == "muon":
        optimizer = keras.optimizers.Muon(
            rates, adam_beta_1=0.7, adam_beta_2=0.9, weight_decay=0.0, adam_weight_decay=0.0, exclude_layers=["out"],
            adam_lr_ratio=settings["adam_ratio"], momentum=settings["momentum"], rms_rate=None,
        )  # fmt: skip
    else:
        optimizer = keras.optimizers.Adam(rates, beta_1=0.7, beta_2=0.9)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings["smoothing"])
    model.compile(optimizer, loss)
    optimizer.build(model.trainable_variables)
    return model


def start_anew(model: keras.Model, seed: int) -> None:
    """Draw new weights into the compiled model and forget what its optimizer gathered."""
    keras.utils.set_random_seed(seed)
    model.set_weights(network().get_weights())
    for variable in model.optimizer.variables:
        variable.assign(np.zeros(variable.shape, variable.dtype))


def main() -> None:
    task = shared.read(__doc__, SETTINGS)
    settings = task.settings
    samples, batch = int(settings["samples"]), int(settings["batch"])
    steps = samples // batch
    model = compiled(settings, steps)
    some = batch * 3
    blank = np.zeros((max(some, TEST_BATCH), 22, 22, 1), np.uint8)
    one_hot = np.eye(10, dtype=np.float32)
    model.fit(blank[:some], np.repeat(one_hot[:1], some, 0), batch_size=batch, shuffle=False, verbose=0)
    model.predict(blank[:TEST_BATCH], batch_size=TEST_BATCH, verbose=0)
    start_anew(model, 0)

    start = time.perf_counter()
    rng = np.random.default_rng(task.seed)
    chosen = shared.order(rng, len(task.x), samples)[: steps * batch]
    x, y = shared.shifted_crops(task.x[chosen], rng)[..., None], one_hot[task.y[chosen]]
    x_test = shared.middle_crops(task.x_test)[..., None]
    start_anew(model, task.seed)
    model.fit(x, y, batch_size=batch, shuffle=False, verbose=0)
    found = model.predict(x_test, batch_size=TEST_BATCH, verbose=0).argmax(1)
    reached = float((found == task.y_test).mean())
    names = ("keras", "jax")
    shared.report(reached, time.perf_counter() - start, {name: version(name) for name in names})


if __name__ == "__main__":
    main()
