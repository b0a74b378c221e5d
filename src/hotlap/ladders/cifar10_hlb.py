"""hlb-CIFAR10 (2023): 94 % in under 6.3 s on an A100, and its wide variant to 95.79 %."""

from __future__ import annotations

from hotlap.ladder import Ladder, Published, Rung
from hotlap.recipe import EngineOptions, Evaluation, Feed, Recipe, part

_SOURCE = "hlb-CIFAR10 v0.7 (2023)"
_DEVIATION = (
    "cutmix partners come from the batch instead of the whole set, and images reach one offset more; whitening takes "
    "the images in the data set's order and aligns the signs of the eigenvectors that it averages"
)
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2470, 0.2435, 0.2616)

BASE = Recipe(
    name="cifar10-hlb/94",
    target=0.94,
    data=part("cifar10"),
    feed=Feed(loading="device", shuffle="every-epoch", drop_last=True, mean=_MEAN, std=_STD),
    augment=(part("translate", max_px=2), part("flip", share=0.5)),
    mixing=part("cutmix", size=3, last_epochs=6.0),
    model=part(
        "speednet",
        whitening=part(
            "patches", kernel=2, padding=0, eps=1e-2, images=50_000, parts=10, centred=True, negated=True, bias="none"
        ),
        widths=(64, 256, 512),
        convolutions=2,
        residual=False,
        activation=part("gelu"),
        conv_init="dirac-restandardised",
        norm_momentum=0.4,
        norm_eps=1e-12,
        norm_scale=False,
        pooling="amax",
        head_init="default",
        logit_scale=1 / 9,
    ),
    label_smoothing=0.2,
    optimizer=part(
        "scaled-sgd",
        lr=1.525,
        momentum=0.85,
        weight_decay=6.687e-4,
        bias_scale=64.0,
        loss_images=512,
        momentum_of="gradients",
    ),
    schedule=part("one-cycle", warmup=0.23, shape="linear", start_factor=0.0, end_factor=0.07),
    averaging=part("ema", decay=0.95, every=5, power=3.0, start=(12 - 10) / 12.1, copy_back=True),
    batch_size=1024,
    epochs=12.1,
    evaluation=Evaluation(batch_size=2500, augmentation=part("mirror")),
    engine=EngineOptions(precision="fp16", memory_format="channels_last"),
)

LADDERS = (
    Ladder(
        name="cifar10-hlb",
        title="CIFAR-10 to 94 % (hlb-CIFAR10 2023)",
        base=BASE,
        rungs=(
            Rung(
                name="94",
                title="hlb-CIFAR10 v0.7",
                why="2×2 whitening, identity-like starts, cutmix and a late average bring 94 % in 12.1 epochs",
                source=_SOURCE,
                published=Published(time_s=6.3, time="< 6.3 s", accuracy=0.94, accuracy_text="94"),
                deviation=_DEVIATION,
            ),
            Rung(
                name="95.79",
                title="twice as wide, 90 epochs",
                change={"model.widths": (128, 512, 1024)},
                retune={"mixing.size": 10, "mixing.last_epochs": 80.0, "averaging.start": (90 - 80) / 90},
                budget={"epochs": 90.0},
                why="the same recipe as a stronger baseline",
                source=_SOURCE,
                published=Published(time_s=110.0, time="110 s", accuracy=0.9579, accuracy_text="95.79"),
                deviation=_DEVIATION,
            ),
        ),
        policy="airbench",
        hardware="one A100",
    ),
)
