"""The published CIFAR-10 networks as components."""

from __future__ import annotations

from typing import Any

from hotlap.recipe import Component, part


def patches(**changes: Any) -> Component:
    """Airbench's whitening."""
    published = {"kernel": 2, "padding": 0, "eps": 5e-4, "images": 5000, "parts": 1, "centred": False}
    return part("patches", **{**published, "negated": True, "bias": "zero", **changes})


def speednet(**changes: Any) -> Component:
    """Airbench94's network."""
    published = {
        "whitening": patches(), "widths": (64, 256, 256), "convolutions": 2, "residual": False,
        "activation": part("gelu"), "conv_init": "partial-dirac", "norm_momentum": 0.4, "norm_eps": 1e-12,
        "norm_scale": False, "pooling": "max-pool", "head_init": "default", "logit_scale": 1 / 9,
    }  # fmt: skip
    return part("speednet", **{**published, **changes})


def resnet9(**changes: Any) -> Component:
    """The network of the cifar10-fast ladder's first rung."""
    published = {
        "whitening": None, "widths": (64, 128, 256, 512), "order": "norm-act-pool", "activation": part("relu"),
        "norm_splits": 1, "norm_scale": True, "norm_momentum": 0.1, "norm_eps": 1e-5, "logit_scale": 0.125,
    }  # fmt: skip
    return part("resnet9", **{**published, **changes})
