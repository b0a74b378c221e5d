"""Every technique with its card: parts that recipes name, and settings of a recipe, its network or its optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hotlap.errors import unknown_name
from hotlap.models import MODELS
from hotlap.optim import OPTIMIZERS, SCHEDULES
from hotlap.recipe import Component, Recipe, paths
from hotlap.registry import Card, Registry
from hotlap.techniques import AUGMENTATIONS, AVERAGINGS, MIXINGS, SELECTIONS, VIEWS

_PAGE = "Page 2019 (cifar10-fast)."
_HLB = "hlb-CIFAR10 2023."
_AIRBENCH = "Jordan 2024 (airbench)."

KINDS: Mapping[str, tuple[str, Registry | None]] = {
    "augmentation": ("Augmentation", AUGMENTATIONS),
    "mixing": ("Mixing images", MIXINGS),
    "selection": ("Selecting images", SELECTIONS),
    "averaging": ("Averaging weights", AVERAGINGS),
    "views": ("Test-time augmentation", VIEWS),
    "optimizers": ("Optimizers", OPTIMIZERS),
    "schedules": ("Learning-rate schedules", SCHEDULES),
    "models": ("Networks", MODELS),
    "settings": ("Settings", None),
}
"""Kinds of techniques: their heading, and where they are registered; settings are listed here."""


@dataclass(frozen=True, slots=True)
class Technique:
    """One technique and where it is to be found.

    Attributes:
        name: how recipes name a part; for a setting a name of its own.
        kind: a key of ``KINDS``.
        card: what it does, its published effect, its source.
        options: what a recipe writes of a part; for a setting the paths that make it.
        where: dotted name of the code.
        used_by: tells whether a recipe has it.
    """

    name: str
    kind: str
    card: Card
    options: tuple[str, ...]
    where: str
    used_by: Callable[[Recipe], bool]


def _setting(
    name: str, where: str, test: Callable[[Any], bool], *options: str, does: str, effect: str, source: str
) -> Technique:
    """A setting is in use where one of its paths has a value that passes the test."""

    def used(recipe: Recipe) -> bool:
        held = paths(recipe)
        return any(
            test(value.name if isinstance(value, Component) else value)
            for path, value in held.items()
            if path in options or (path.startswith("optimizer.") and f"optimizer.{path.rpartition('.')[2]}" in options)
        )

    return Technique(name, "settings", Card(does, effect, source), options, where, used)


def _is(wanted: Any) -> Callable[[Any], bool]:
    return lambda value: bool(value == wanted)


SETTINGS: tuple[Technique, ...] = (
    _setting(
        "data-on-device",
        "hotlap.engine.feed.make_feed",
        _is("device"),
        "feed.loading",
        does="Keeps the whole normalised data set on the training device; batches are slices of it.",
        effect="MNIST to 99 %: 30.3 → 7.31 s, instead of reading and transforming one image at a time.",
        source="Oikarinen 2021 (train_mnist_fast); Page 2019.",
    ),
    _setting(
        "label-smoothing",
        "hotlap.engine.program.Program.losses",
        lambda value: value > 0,
        "label_smoothing",
        does="Takes a share of each target away from its class and spreads it over all classes.",
        effect="94.2 % instead of 94.1 % in 25 epochs, traded for 23 epochs: 64 → 59 s, with a share of 0.2.",
        source=f"Szegedy et al. 2016; {_PAGE}",
    ),
    _setting(
        "pool-before-norm",
        "hotlap.models.resnet9.Block",
        _is("pool-norm-act"),
        "model.order",
        does="Pools right after the convolution, so that normalisation and activation see a quarter of the pixels.",
        effect="70 → 64 s, one epoch more included.",
        source=_PAGE,
    ),
    _setting(
        "celu",
        "hotlap.models.layers.activation",
        _is("celu"),
        "model.activation",
        does="A smooth activation in place of ReLU, linear above zero and exponential below.",
        effect="94.3 % in 23 epochs, traded for 20 epochs: 59 → 52 s.",
        source=f"Barron 2017; {_PAGE}",
    ),
    _setting(
        "gelu",
        "hotlap.models.layers.activation",
        _is("gelu"),
        "model.activation",
        does="The input times the normal distribution's function of it, exactly: a smooth activation.",
        effect="Part of every recipe since hlb-CIFAR10; no figure of its own is published.",
        source=f"Hendrycks and Gimpel 2016; {_HLB}",
    ),
    _setting(
        "silu",
        "hotlap.models.layers.activation",
        _is("silu"),
        "model.activation",
        does="The input times its logistic function: a smooth activation that is cheaper than GELU.",
        effect="Part of 94.01 % in 1.99–2.015 s; no figure of its own is published.",
        source="Elfwing et al. 2018; Hiverge 2025.",
    ),
    _setting(
        "ghost-batch-norm",
        "hotlap.models.norms.GhostBatchNorm2d",
        lambda value: value > 1,
        "model.norm_splits",
        does="Normalises parts of a batch each by its own statistics, whose noise regularises.",
        effect="94.2 % in 20 epochs, traded for 18 epochs with a higher learning rate: 52 → 46 s.",
        source=f"Hoffer et al. 2017; {_PAGE}",
    ),
    _setting(
        "frozen-norm-scale",
        "hotlap.models.norms.GhostBatchNorm2d",
        _is(False),
        "model.norm_scale",
        does="Leaves the scales of batch normalisation at one; only its biases are trained.",
        effect="Together with bias groups 46 → 43 s.",
        source=_PAGE,
    ),
    _setting(
        "bias-groups",
        "hotlap.optim.summed.scaled_sgd",
        lambda value: value != 1,
        "optimizer.bias_scale",
        does="Trains biases with a learning rate of their own, many times that of the weights, and as much less decay.",
        effect="Together with frozen scales 46 → 43 s.",
        source=_PAGE,
    ),
    _setting(
        "patch-whitening",
        "hotlap.models.whitening.PatchWhitening",
        _is("patches"),
        "model.whitening",
        does="Replaces the first convolution's filters by fixed ones which decorrelate small patches of the images.",
        effect="94.4 % in 17 epochs, traded for 14 epochs: 43 → 36 s, with 3×3 pixels. 2×2 pixels and their negation "
        "since hlb-CIFAR10.",
        source=f"{_PAGE[:-1]}; {_HLB}",
    ),
    _setting(
        "whitening-bias-freeze",
        "hotlap.optim.by_role.by_role",
        lambda value: value is not None,
        "optimizer.whitening_epochs",
        "optimizer.whitening_schedule",
        does="Trains the bias after the whitening for the first epochs only, which spares its gradient afterwards.",
        effect="Part of 94.01 % in 9.9 epochs, for three epochs; no figure of its own is published.",
        source=_AIRBENCH,
    ),
    _setting(
        "partial-dirac",
        "hotlap.models.layers.PartialDiracConv3x3",
        _is("partial-dirac"),
        "model.conv_init",
        does="Lets the first filters of each convolution pass its channels on unchanged at the start.",
        effect="Part of 94.01 % in 9.9 epochs; no figure of its own is published.",
        source=_AIRBENCH,
    ),
    _setting(
        "dirac-restandardised",
        "hotlap.models.layers.RestandardisedConv3x3",
        _is("dirac-restandardised"),
        "model.conv_init",
        does="Adds the identity to a group's first convolution, brought back to the usual mean and spread; others "
        "start as the identity.",
        effect="Part of 94 % in 6.3 s; no figure of its own is published.",
        source=_HLB,
    ),
    _setting(
        "unit-std-head",
        "hotlap.models.layers.Head",
        _is("unit-std"),
        "model.head_init",
        does="Divides the last layer's weights by their standard deviation at the start.",
        effect="Part of 94.01 % in 2.59 s; no figure of its own is published.",
        source=_AIRBENCH,
    ),
    _setting(
        "scaled-logits",
        "hotlap.models.layers.Head",
        lambda value: value != 1,
        "model.logit_scale",
        does="Multiplies the logits by a small fixed factor.",
        effect="Part of every CIFAR-10 ladder, from 1/8 to 1/256; no figure of its own is published.",
        source=_PAGE,
    ),
    _setting(
        "weight-renormalisation",
        "hotlap.optim.muon.Muon",
        lambda value: bool(value),
        "optimizer.renormalise_every",
        does="Brings convolutions back to a fixed norm before Muon's step: before each, or before every so many.",
        effect="Part of 94.01 % in 2.59 s; at growing intervals part of 1.99–2.015 s.",
        source="Jordan 2024 (airbench); Hiverge 2025.",
    ),
    _setting(
        "batched-muon",
        "hotlap.optim.muon.Muon",
        _is(True),
        "optimizer.batched",
        does="Orthogonalises the gradients of all convolutions in one chain of products, padded to one shape.",
        effect="Part of 94.01 % in 1.99–2.015 s; no figure of its own is published.",
        source="Hiverge 2025.",
    ),
    _setting(
        "half-precision",
        "hotlap.engine.precision.precision_of",
        lambda value: value in ("fp16", "bf16", "auto"),
        "engine.precision",
        does="Computes in 16 bits what loses nothing by it; normalisation stays in 32.",
        effect="Part of every CIFAR-10 ladder, which were all published so.",
        source=f"Micikevicius et al. 2018; {_PAGE}",
    ),
    _setting(
        "channels-last",
        "hotlap.engine.network.build_network",
        _is("channels_last"),
        "engine.memory_format",
        does="Keeps the channels of a pixel side by side in memory, as fast convolutions want them.",
        effect="hlb-CIFAR10: 18.1 → 12.3 s, together with another order of pooling.",
        source=_HLB,
    ),
)


@cache
def techniques() -> Mapping[str, Technique]:
    """Every technique by name, in the order of their kinds."""
    return {technique.name: technique for technique in _all()}


def technique(name: str) -> Technique:
    """Return one technique.

    Raises:
        InputError: an unknown name; the nearest is suggested.
    """
    if name not in techniques():
        raise unknown_name("technique", name, tuple(techniques()))
    return techniques()[name]


def _all() -> Iterator[Technique]:
    for kind, (_, registry) in KINDS.items():
        if registry is None:
            yield from SETTINGS
            continue
        for entry in registry:
            where = f"{entry.build.__module__}.{entry.build.__name__}"
            yield Technique(entry.name, kind, entry.card, entry.options, where, _names(entry.name))


def _names(part: str) -> Callable[[Recipe], bool]:
    named = f'"name": "{part}"'
    return lambda recipe: named in recipe.to_json()
