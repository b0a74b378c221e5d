"""Tiny recipes on synthetic images: the real engine in a second."""

from __future__ import annotations

from typing import Any

from hotlap.recipe import Evaluation, Feed, Recipe, part

SYNTHETIC = part("synthetic", train=512, test=256, size=12, channels=1, classes=4, seed=0, noise=0.2)


def tiny(**changes: Any) -> Recipe:
    """A recipe that learns synthetic images in two epochs; keyword ``a__b=c`` sets ``a.b``."""
    recipe = Recipe(
        name="tiny",
        target=0.5,
        data=SYNTHETIC,
        feed=Feed(loading="device", shuffle="every-epoch", drop_last=False, mean=None, std=None),
        model=part(
            "conv-stack",
            widths=(8, 16),
            kernels=(3, 3),
            activations=(True, True),
            pools=(2, 2),
            order="pool-activation",
            conv_dropout=0.0,
            hidden=(32,),
            hidden_dropout=0.0,
        ),
        optimizer=part("adam", lr=0.01, betas=(0.9, 0.99), eps=1e-8),
        schedule=part("one-cycle", warmup=0.3, shape="cos", start_factor=0.04, end_factor=4e-6),
        batch_size=64,
        epochs=3.0,
        evaluation=Evaluation(batch_size=100),
    )
    return recipe.with_changes({path.replace("__", "."): value for path, value in changes.items()})
