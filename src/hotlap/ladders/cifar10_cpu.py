"""CIFAR-10 to 94 % on a CPU, where arithmetic is what costs: steps from airbench's Muon recipe to less of it."""

from __future__ import annotations

from hotlap.ladder import Ladder, Published, Rung, resolve
from hotlap.ladders import cifar10_airbench
from hotlap.recipe import part

_UNPUBLISHED = Published(time_s=None, time="–", accuracy=None, accuracy_text="–")
_OWN = "hotlap's own"

(_MUON,) = (
    step.recipe for step in resolve(cifar10_airbench.LADDERS[0]) if step.recipe.name == "cifar10-airbench/94-muon"
)

BASE = _MUON.with_changes({"engine.precision": "fp32", "engine.fused": False}, name="cifar10-cpu/94-muon")

LESS = {
    "augment": (*BASE.augment, part("shrink", until=(0.4,), sides=(24,))),
    "model.activation": part("silu"),
    "optimizer.filters.batched": True,
    "optimizer.filters.renormalise_every": 5,
    "optimizer.whitening_schedule": part("linear", epochs=0.5),
    "evaluation.augmentation": part("selective", of=part("six-view", shift=1), share=0.2),
}
"""How our own records train, on a GPU and on a CPU."""

LESS_EPOCHS = 10.0

RUNGS = (
    Rung(
        name="94-muon",
        title="airbench94_muon as a CPU runs it",
        why="the fastest published method, in float32, channels last; 0.29 PFLOP",
        source="Jordan 2024, airbench94_muon",
        published=_UNPUBLISHED,
        deviation="float32 instead of half precision",
    ),
    Rung(
        name="winograd",
        title="convolutions by Winograd's tiles",
        change={"engine.winograd": True},
        why="9 multiplications for every output become 1½ to 2½, forwards and backwards; with the pooling in the same "
        "pass, images of before it are never written",
        source="Lavin and Gray 2016",
        published=_UNPUBLISHED,
    ),
    Rung(
        name="fused",
        title="pooling, normalisation and activation at once",
        change={"engine.fused": True},
        why="between one convolution and the next the images are gone over twice instead of four to six times, "
        "and twice more backwards",
        source=_OWN,
        published=_UNPUBLISHED,
    ),
    Rung(
        name="selective-views",
        title="six views for the least sure quarter",
        change={"evaluation.augmentation": part("selective", of=part("six-view", shift=1), share=0.25)},
        why="six views of every test image are 5 % of the arithmetic of 94-muon, and a growing share of what is left",
        source="Hiverge 2025",
        published=_UNPUBLISHED,
    ),
    Rung(
        name="low-resolution",
        title="four epochs at low resolution, then five",
        change={"augment": (*BASE.augment, part("shrink", until=(4 / 9,), sides=(24,)))},
        budget={"epochs": 9.0},
        why="an epoch at 24×24 pixels takes half the time of one at 32×32; the last five see whole images and fit what "
        "details there are",
        source="Progressive resizing: fast.ai 2018 and Tan and Le 2021, for ImageNet",
        published=_UNPUBLISHED,
    ),
    Rung(
        name="as-on-a-gpu",
        title="the values of cifar10/record",
        # Padding all filters to one shape, to handle them at once, pays on a GPU only.
        change={path: value for path, value in LESS.items() if path != "optimizer.filters.batched"},
        budget={"epochs": LESS_EPOCHS},
        why="filters brought back to their size every five steps, SiLU, a whitening bias that rests after half an "
        "epoch: what the record on a GPU was tuned to",
        source=_OWN,
        published=_UNPUBLISHED,
    ),
    Rung(
        name="bfloat16",
        title="bfloat16 where the processor has matrix registers",
        change={"engine.precision": "auto"},
        why="Intel's AMX multiplies bfloat16 matrices five to eight times as fast as AVX-512 does those of float32; "
        "on other processors nothing changes",
        source=_OWN,
        published=_UNPUBLISHED,
    ),
)

LADDERS = (
    Ladder(
        name="cifar10-cpu",
        title="CIFAR-10 to 94 % with less arithmetic, for a CPU",
        base=BASE,
        rungs=RUNGS,
        policy="airbench",
        hardware="nothing is published for a CPU",
    ),
)
