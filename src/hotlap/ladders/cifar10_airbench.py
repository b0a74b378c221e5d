"""airbench (Jordan 2024): CIFAR-10 to 94, 95 and 96 %, its Muon recipe, and the published ideas after it."""

from __future__ import annotations

from hotlap.ladder import Ladder, Published, Rung
from hotlap.recipe import EngineOptions, Evaluation, Feed, Recipe, part

_SOURCE = "Jordan 2024, airbench"
_AFTER = "Hiverge 2025, on top of airbench94_muon"
_MEAN = (0.4914, 0.4822, 0.4465)
_STD = (0.2470, 0.2435, 0.2616)
_UNPUBLISHED = Published(time_s=None, time="–", accuracy=None, accuracy_text="–")

_WHITENING = part(
    "patches", kernel=2, padding=0, eps=5e-4, images=5000, parts=1, centred=False, negated=True, bias="zero"
)

BASE = Recipe(
    name="cifar10-airbench/94",
    target=0.94,
    data=part("cifar10"),
    feed=Feed(loading="device", shuffle="every-epoch", drop_last=True, mean=_MEAN, std=_STD),
    augment=(part("alternating-flip"), part("translate", max_px=2)),
    model=part(
        "speednet",
        whitening=_WHITENING,
        widths=(64, 256, 256),
        convolutions=2,
        residual=False,
        activation=part("gelu"),
        conv_init="partial-dirac",
        norm_momentum=0.4,
        norm_eps=1e-12,
        norm_scale=False,
        pooling="max-pool",
        head_init="default",
        logit_scale=1 / 9,
    ),
    label_smoothing=0.2,
    optimizer=part(
        "by-role",
        filters=part("decoupled-sgd", lr=11.5, momentum=0.85, weight_decay=0.0153, bias_scale=64.0, unit="kilostep"),
        norm=None,
        whitening=None,
        head=None,
        whitening_epochs=3.0,
        whitening_schedule=None,
    ),
    schedule=part("triangle", warmup=0.23, start_factor=0.2, end_factor=0.07),
    averaging=part("lookahead", decay=0.95, every=5, power=3.0),
    batch_size=1024,
    epochs=9.9,
    evaluation=Evaluation(batch_size=2000, augmentation=part("six-view", shift=1)),
    engine=EngineOptions(precision="fp16", memory_format="channels_last"),
)

_SGD_OF_MUON = {"momentum": 0.85, "weight_decay": 2e-6, "bias_scale": 1.0, "unit": "image"}
_MUON = part(
    "by-role",
    filters=part(
        "muon", lr=0.24, momentum=0.6, nesterov=True, steps=3, renormalise_every=1, batched=False, dtype="auto"
    ),
    norm=part("decoupled-sgd", lr=0.053, **_SGD_OF_MUON),
    whitening=part("decoupled-sgd", lr=0.053, **_SGD_OF_MUON),
    head=part("decoupled-sgd", lr=0.67, **_SGD_OF_MUON),
    whitening_epochs=None,
    whitening_schedule=part("linear", epochs=3.0),
)

RUNGS = (
    Rung(
        name="94",
        title="airbench94",
        why="alternating flip, lookahead and six views on hlb-CIFAR10's network, narrower",
        source=_SOURCE,
        published=Published(time_s=3.83, time="3.83 s", accuracy=0.9401, accuracy_text="94.01 (n = 1000)"),
    ),
    Rung(
        name="95",
        title="wider, to 95 %",
        change={"model.widths": (128, 384, 384), "target": 0.95},
        retune={"optimizer.filters.lr": 10.0},
        budget={"epochs": 15.0},
        why="more channels and epochs for the next percent",
        source=_SOURCE,
        published=Published(time_s=10.4, time="10.4 s", accuracy=0.9501, accuracy_text="95.01 (n = 200)"),
    ),
    Rung(
        name="96",
        title="deeper, with cutout, to 96 %",
        change={
            "model.widths": (128, 384, 512),
            "model.convolutions": 3,
            "model.residual": True,
            "augment": (part("alternating-flip"), part("translate", max_px=4), part("cutout", size=12)),
            "target": 0.96,
        },
        retune={
            "model.norm_momentum": 0.1,
            "optimizer.filters.lr": 9.0,
            "optimizer.filters.weight_decay": 0.012,
            "schedule.warmup": 0.1,
            "schedule.end_factor": 0.0,
        },
        budget={"epochs": 37.0},
        why="a third convolution and stronger augmentation",
        source=_SOURCE,
        published=Published(time_s=34.7, time="34.7 s", accuracy=0.9603, accuracy_text="96.03 (n = 400)"),
    ),
    Rung(
        name="96-faster",
        title="batches that a small proxy finds hard",
        change={
            "selection": part(
                "proxy",
                keep=512,
                train_every=4,
                model=part(
                    "speednet",
                    whitening=part(
                        "patches",
                        kernel=2,
                        padding=0,
                        eps=5e-4,
                        images=5000,
                        parts=1,
                        centred=False,
                        negated=True,
                        bias="none",
                    ),
                    widths=(32, 64, 64),
                    convolutions=2,
                    residual=False,
                    activation=part("gelu"),
                    conv_init="partial-dirac",
                    norm_momentum=0.1,
                    norm_eps=1e-12,
                    norm_scale=False,
                    pooling="max-pool",
                    head_init="default",
                    logit_scale=1 / 9,
                ),
                optimizer=part(
                    "decoupled-sgd", lr=9.0, momentum=0.85, weight_decay=0.012, bias_scale=64.0, unit="kilostep"
                ),
                schedule=part("triangle", warmup=0.1, start_factor=0.2, end_factor=0.0),
            )
        },
        budget={"epochs": 45.0},
        why="half of the images of a batch teach little; a small network tells which, at a fraction of the cost",
        source="Jordan 2024, airbench96_faster",
        published=Published(time_s=27.3, time="27.3 s", accuracy=0.96, accuracy_text="96.00 (n = 200)"),
        deviation="the proxy is trained beside the main network on the same batches, not before it; batches end with "
        "the epoch; the whitening bias is trained for 3 epochs, as the source means to, while its code never stops",
    ),
    Rung(
        name="94-muon",
        parent="94",
        title="Muon for the convolutions",
        change={"optimizer": _MUON, "schedule": part("linear", epochs=None), "averaging": None},
        retune={
            "batch_size": 2000,
            "model.head_init": "unit-std",
            "model.logit_scale": 1 / 256,
            "model.whitening.bias": "default",
        },
        budget={"epochs": 8.0},
        why="steps of nearly orthogonal matrices learn more from each batch",
        source="Jordan 2024, airbench94_muon",
        published=Published(time_s=2.59, time="2.59 s", accuracy=0.9401, accuracy_text="94.01 (n = 200)"),
        deviation="on a CPU the Newton–Schulz iteration is in float32; each image is cropped by an index of its own "
        "from the start, which Hiverge 2025 counts as an idea after airbench (vectorised crops)",
    ),
    Rung(
        name="94-batched-muon",
        parent="94-muon",
        title="all Muon matrices in one iteration",
        change={"optimizer.filters.batched": True},
        why="six small iterations become one chain of larger products",
        source=_AFTER,
        published=_UNPUBLISHED,
    ),
    Rung(
        name="94-rare-renormalisation",
        parent="94-muon",
        title="weights renormalised every fifth step",
        change={"optimizer.filters.renormalise_every": 5},
        why="weights hardly grow in a few steps",
        source=_AFTER,
        published=_UNPUBLISHED,
        deviation="the source renormalises at intervals that grow from 2 to 17 steps",
    ),
    Rung(
        name="94-jitter",
        parent="94-muon",
        title="brightness and contrast jitter",
        change={
            "augment": (
                part("alternating-flip"),
                part("translate", max_px=2),
                part("jitter", brightness=0.14, contrast=0.13),
            )
        },
        why="a little more variety for free",
        source=_AFTER,
        published=_UNPUBLISHED,
        deviation="contrast is changed about an image's own mean; the source multiplies about zero",
    ),
    Rung(
        name="94-silu",
        parent="94-muon",
        title="SiLU in place of GELU",
        change={"model.activation": part("silu")},
        why="cheaper to compute, and as smooth",
        source=_AFTER,
        published=_UNPUBLISHED,
        deviation="also right after the whitening, where the source keeps GELU",
    ),
    Rung(
        name="94-selective-tta",
        parent="94-muon",
        title="six views for the least confident quarter",
        change={"evaluation.augmentation": part("selective", of=part("six-view", shift=1), share=0.25)},
        why="views change the answer only where the network is in doubt",
        source=_AFTER,
        published=_UNPUBLISHED,
        deviation="doubt is a small margin between the two largest logits; the source takes the largest probability "
        "and weighs the six views alike",
    ),
    Rung(
        name="94-hiverge",
        parent="94-muon",
        title="all ideas after airbench together",
        change={
            "optimizer.filters.batched": True,
            "optimizer.filters.renormalise_every": 5,
            "augment": (
                part("alternating-flip"),
                part("translate", max_px=2),
                part("jitter", brightness=0.14, contrast=0.13),
            ),
            "model.activation": part("silu"),
            "evaluation.augmentation": part("selective", of=part("six-view", shift=1), share=0.25),
        },
        retune={"batch_size": 1536, "label_smoothing": 0.09},
        budget={"epochs": 7.6},
        why="what a search over programs found",
        source=_AFTER,
        published=Published(time_s=2.0, time="1.99–2.015 s", accuracy=0.9401, accuracy_text="94.01"),
        deviation="learning rates, momenta, decays and Newton–Schulz coefficients are those of 94-muon; the source has "
        "its own, renormalises at growing intervals, jitters about zero and weighs the six views alike",
    ),
)

LADDERS = (
    Ladder(
        name="cifar10-airbench",
        title="CIFAR-10 to 94, 95 and 96 % (Jordan 2024, airbench, and after)",
        base=BASE,
        rungs=RUNGS,
        policy="airbench",
        hardware="one A100",
    ),
)
