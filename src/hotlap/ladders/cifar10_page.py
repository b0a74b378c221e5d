"""cifar10-fast (Page 2019): CIFAR-10 to 94 % in ten rungs, from 75 s to 26 s on one V100, and its long training."""

from __future__ import annotations

from typing import Any

from hotlap.ladder import Ladder, Published, Rung
from hotlap.recipe import Component, EngineOptions, Evaluation, Feed, Recipe, part

_SOURCE = "Page 2019, cifar10-fast (How to Train Your ResNet 8: Bag of Tricks)"
_MEAN = (125.31 / 255, 122.95 / 255, 113.87 / 255)
_STD = (62.99 / 255, 62.09 / 255, 66.70 / 255)
_OPTIONS = 200
"""Random options that each grouped augmentation draws in an epoch."""


def _ramp(epochs: float) -> dict[str, Any]:
    """Up over the first fifth of the epochs, then down to nothing."""
    return {"epochs": epochs, "schedule.epochs": (0.0, epochs / 5, epochs)}


def _early(epochs: float) -> dict[str, Any]:
    """Up over the first five epochs, however many there are, then down to nothing."""
    return {"epochs": epochs, "schedule.epochs": (0.0, 5.0, epochs)}


def _floored(epochs: float) -> dict[str, Any]:
    """Up over the first fifth, down to a tenth of the peak, which the last two epochs keep."""
    return {"epochs": epochs, "schedule.epochs": (0.0, epochs / 5, epochs - 2)}


def _grouped(of: Component) -> Component:
    return part("grouped", of=of, options=_OPTIONS)


def _seen(time_s: float, accuracy: float = 94.1) -> Published:
    return Published(time_s=time_s, time=f"{time_s:g} s", accuracy=accuracy / 100, accuracy_text=f"{accuracy:g}")


BASE = Recipe(
    name="cifar10-page/0-dawnbench",
    target=0.94,
    data=part("cifar10"),
    feed=Feed(loading="device", shuffle="every-epoch", drop_last=True, mean=_MEAN, std=_STD),
    augment=(part("translate", max_px=4), part("flip", share=0.5), part("cutout", size=8)),
    model=part(
        "resnet9",
        whitening=None,
        widths=(64, 128, 256, 512),
        order="norm-act-pool",
        activation=part("relu"),
        norm_splits=1,
        norm_scale=True,
        norm_momentum=0.1,
        norm_eps=1e-5,
        logit_scale=1 / 8,
    ),
    optimizer=part(
        "scaled-sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, bias_scale=1.0, loss_images=None, momentum_of="steps"
    ),
    schedule=part("piecewise", epochs=(0.0, 5.0, 24.0), factors=(0.0, 1.0, 0.0)),
    batch_size=512,
    epochs=24.0,
    evaluation=Evaluation(batch_size=512),
    engine=EngineOptions(precision="fp16"),
)

_WHITENING = part(
    "patches", kernel=3, padding=1, eps=1e-2, images=10_000, parts=1, centred=False, negated=False, bias="none"
)

RUNGS = (
    Rung(
        name="0-dawnbench",
        title="the DAWNBench entry",
        why="the starting point: a residual network of nine layers, tuned for 24 epochs",
        source=_SOURCE,
        published=Published(time_s=75.0, time="75 s", accuracy=0.9408, accuracy_text="94.08 (median)"),
        deviation="pre-processing and augmentation are done on the training device from the start; "
        "images are augmented one by one, batch by batch",
    ),
    Rung(
        name="1-gpu-preprocessing",
        title="augmentation by groups, on the device",
        change={
            "augment": (
                _grouped(part("translate", max_px=4)),
                _grouped(part("flip", share=0.5)),
                _grouped(part("cutout", size=8)),
            )
        },
        why="an option applied to a whole group of images is one cheap operation, so the CPU no longer holds it up",
        source=_SOURCE,
        published=_seen(70.0),
        deviation="the data are on the device in rung 0 already, so only the way of augmenting changes",
    ),
    Rung(
        name="2-pool-first",
        title="pool before normalisation and ReLU",
        change={"model.order": "pool-norm-act"},
        budget=_ramp(25.0),
        why="normalisation and ReLU see a quarter of the values; one more epoch makes up for the lost accuracy",
        source=_SOURCE,
        published=_seen(64.0),
    ),
    Rung(
        name="3-label-smoothing",
        title="label smoothing of 0.2",
        change={"label_smoothing": 0.2},
        budget=_ramp(23.0),
        why="less confident targets generalise better",
        source=_SOURCE,
        published=_seen(59.0),
    ),
    Rung(
        name="4-celu",
        title="CELU in place of ReLU",
        change={"model.activation": part("celu", alpha=0.075)},
        budget=_ramp(20.0),
        why="a smooth activation is easier to optimise",
        source=_SOURCE,
        published=_seen(52.0),
    ),
    Rung(
        name="5-ghost-batch-norm",
        title="batch norm over groups of 32 images",
        change={"model.norm_splits": 16},
        retune={"optimizer.lr": 0.6},
        budget=_ramp(18.0),
        why="noisier statistics regularise, and allow a higher learning rate",
        source=_SOURCE,
        published=_seen(46.0),
    ),
    Rung(
        name="6-frozen-bn-scale",
        title="fixed batch-norm scales, faster biases",
        change={"model.norm_scale": False, "optimizer.bias_scale": 64.0},
        retune={"model.activation.alpha": 0.3, "model.logit_scale": 1 / 16},
        budget=_ramp(17.0),
        why="learned scales hardly train in so short a time, biases can move much faster than weights",
        source=_SOURCE,
        published=_seen(43.0),
    ),
    Rung(
        name="7-patch-whitening",
        title="fixed whitening of 3×3 patches",
        change={"model.whitening": _WHITENING},
        retune={"optimizer.lr": 1.0, "augment.2.of.size": 5},
        budget=_ramp(14.0),
        why="decorrelated inputs let the first layers learn at a higher learning rate",
        source=_SOURCE,
        published=_seen(36.0),
    ),
    Rung(
        name="8-ema",
        title="moving average of the weights",
        change={
            "averaging": part("ema", decay=0.99, every=5, power=0.0, start=0.0, copy_back=False),
            "schedule.factors": (0.0, 1.0, 0.1),
        },
        budget=_floored(13.0),
        why="an average of late weights does the work of a learning rate that goes to zero",
        source=_SOURCE,
        deviation="the average follows steps 5, 10, … of the training; the source counts anew each epoch, from 1",
        published=_seen(34.0),
    ),
    Rung(
        name="9-flip-tta",
        title="mirror images at test time",
        change={"evaluation.augmentation": part("mirror")},
        retune={"augment": (_grouped(part("translate", max_px=4)), _grouped(part("flip", share=0.5)))},
        budget=_floored(10.0),
        why="the mean over an image and its mirror image is more often right, at the cost of one more evaluation",
        source=_SOURCE,
        published=_seen(26.0),
    ),
)

_LONG_SOURCE = f"{_SOURCE}: baseline and final network at five lengths of training, 5 runs each"
_UNPUBLISHED = Published(time_s=None, time="–", accuracy=None, accuracy_text="–")


def _long(
    name: str, title: str, base: Recipe, *, floored: bool, published: dict[int, float], deviation: str = ""
) -> Ladder:
    lengths = (24, 40, 60, 80, 100)

    def of(epochs: int) -> Published:
        if epochs not in published:
            return _UNPUBLISHED
        accuracy = published[epochs]
        return Published(time_s=None, time="–", accuracy=accuracy / 100, accuracy_text=f"{accuracy:g}")

    schedule = _floored if floored else _early
    first = base.with_changes(schedule(24.0), name=f"{name}/24-epochs")
    return Ladder(
        name=name,
        title=title,
        base=first,
        rungs=tuple(
            Rung(
                name=f"{epochs}-epochs",
                title=f"{epochs} epochs",
                budget={} if epochs == 24 else schedule(float(epochs)),
                why="more training for higher accuracy",
                source=_LONG_SOURCE,
                published=of(epochs),
                deviation=deviation,
            )
            for epochs in lengths
        ),
        policy="dawnbench",
        hardware="one V100",
    )


def _final() -> Recipe:
    from hotlap.ladder import resolve

    return resolve(PAGE)[-1].recipe


PAGE = Ladder(
    name="cifar10-page",
    title="CIFAR-10 to 94 % (Page 2019, cifar10-fast)",
    base=BASE,
    rungs=RUNGS,
    policy="dawnbench",
    hardware="one V100",
)

_CUTOUT_12 = _grouped(part("cutout", size=12))
LADDERS = (
    PAGE,
    _long(
        "cifar10-page-baseline",
        "CIFAR-10, long training of the baseline (Page 2019)",
        BASE.with_changes({"augment": (*RUNGS[1].change["augment"][:2], _CUTOUT_12)}),
        floored=False,
        published={},
        deviation="cutout of 12×12 pixels as for the final network, and five epochs of warm-up at every length: the "
        "source says neither of the baseline",
    ),
    _long(
        "cifar10-page-final",
        "CIFAR-10, long training of the final network (Page 2019)",
        _final().with_changes({"augment": (*_final().augment, _CUTOUT_12), "optimizer.lr": 0.4}),
        floored=True,
        published={80: 96.1},
    ),
)
