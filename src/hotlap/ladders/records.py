"""Own records: finished recipes that no publication describes and no ladder leads to."""

from __future__ import annotations

from hotlap.ladder import resolve
from hotlap.ladders import cifar10_airbench, cifar10_cpu
from hotlap.recipe import EngineOptions, Evaluation, Feed, Recipe, part

# Without a mean the background stays exactly 0, which arithmetic that skips zeros makes use of.
MNIST = Recipe(
    name="mnist/record",
    target=0.99,
    data=part("mnist"),
    feed=Feed(loading="device", shuffle="every-epoch", drop_last=False, mean=(0.0,), std=(0.3081,)),
    augment=(part("translate", max_px=1),),
    model=part(
        "lean-stack",
        crop=20,
        widths=(8, 16),
        kernels=(3, 3),
        padding=(1, 0),
        pools=(2, 2),
        pooling="max",
        order="pool-activation",
        hidden=(72,),
    ),
    label_smoothing=0.05,
    optimizer=part(
        "by-shape",
        matrices=part(
            "muon-polar",
            lr=0.12,
            momentum=0.733,
            nesterov=True,
            steps=3,
            renormalise_every=0,
            batched=False,
            dtype="fp32",
        ),
        rest=part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-8),
        scales=(0.444, 1.0, 0.667),
    ),
    schedule=part("one-cycle", warmup=0.07, shape="linear", start_factor=0.04, end_factor=0.02),
    batch_size=192,
    epochs=0.56,
    evaluation=Evaluation(
        batch_size=1000,
        augmentation=part("selective", of=part("shifts", pixels=1), share=0.03),
    ),
    engine=EngineOptions(memory_format="channels_last"),
)

MNIST_PLAIN = MNIST.with_changes({"evaluation.augmentation": None, "epochs": 0.92}, name="mnist/record-plain")

# A GPU takes as long for many images and channels as for few: what counts is the number of steps, and of their kernels.
MNIST_GPU = MNIST.with_changes(
    {
        "model.widths": (32, 64),
        "model.hidden": (128,),
        "batch_size": 1024,
        "epochs": 0.644,
        "optimizer.scales": (),
        "optimizer.matrices.lr": 0.18,
        "optimizer.matrices.momentum": 0.6,
        "optimizer.matrices.batched": True,
        "optimizer.matrices.dtype": "auto",
        "optimizer.rest.lr": 0.015,
        "schedule.end_factor": 0.1,
        "evaluation.augmentation": None,
        "evaluation.batch_size": 10000,
        "engine.precision": "fp16",
        "engine.compile": True,
    },
    name="mnist/record-gpu",
)

# Clothes fill the whole image, and mirrored they are clothes still; shifts cost accuracy in trainings this short.
FASHION = MNIST.with_changes(
    {
        "data": part("fashion-mnist"),
        "feed.mean": (0.286,),
        "feed.std": (0.353,),
        "augment": (part("flip", share=0.5),),
        "model.crop": None,
        "model.padding": (1, 1),
        "model.hidden": (96,),
        "batch_size": 256,
        "epochs": 2.6,
        "evaluation.augmentation": part("selective", of=part("mirror"), share=0.12),
        "target": 0.91,
    },
    name="fashion-mnist/record",
)

# Two points more: a third convolution, four times the channels, twice the epochs, more smoothing.
FASHION_93 = FASHION.with_changes(
    {
        "augment": (part("alternating-flip"),),
        "model.widths": (32, 64, 64),
        "model.kernels": (3, 3, 3),
        "model.padding": (1, 1, 1),
        "model.pools": (2, 2, 1),
        "model.hidden": (128,),
        "optimizer.matrices.lr": 0.05,
        "optimizer.scales": (0.444, 1.0, 1.0, 0.667),
        "label_smoothing": 0.1,
        "epochs": 5.0,
        "target": 0.93,
    },
    name="fashion-mnist/record-93",
)

(_MUON,) = (
    step.recipe for step in resolve(cifar10_airbench.LADDERS[0]) if step.recipe.name == "cifar10-airbench/94-muon"
)

# Where the ladder for CPUs ends.
CIFAR10_CPU = resolve(cifar10_cpu.LADDERS[0])[-1].recipe.with_changes({}, name="cifar10/record-cpu")

# On a GPU compiled and recorded steps cost what the hardware does; what is left is to do less, as on a CPU.
CIFAR10 = _MUON.with_changes(
    {**cifar10_cpu.LESS, "epochs": cifar10_cpu.LESS_EPOCHS, "evaluation.batch_size": 2000, "engine.compile": True},
    name="cifar10/record",
)

RECIPES = (MNIST, MNIST_PLAIN, MNIST_GPU, FASHION, FASHION_93, CIFAR10, CIFAR10_CPU)
