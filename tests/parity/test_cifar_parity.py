"""Each published CIFAR-10 recipe trains as a plain reading of its description does.

Both sides start from the same weights and see the same batches: the plain side loads the network that hotlap drew,
tensor by tensor, and takes its batches from a second feed of the same seed. That the feed does to images what the
descriptions say, that networks start as they say, and that whitening, schedules and averages at full length are theirs,
are tests of their own. Networks and batches are small here; ``-m slow`` runs the published widths.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import plain_cifar as plain
import plain_cifar_airbench as airbench
import plain_cifar_hlb as hlb
import plain_cifar_page as page
import pytest
import torch
from doubled import in_float64
from torch import Tensor, nn

from hotlap import datasets
from hotlap.datasets import ImageData
from hotlap.engine import augmenting
from hotlap.engine.averages import averaging_of
from hotlap.engine.feed import first_images, make_feed
from hotlap.engine.loop import train_once
from hotlap.engine.network import build_network
from hotlap.engine.program import Program
from hotlap.engine.seeding import Streams, isolated
from hotlap.engine.selecting import Selecting
from hotlap.engine.updates import Updates
from hotlap.ladder import get_recipe
from hotlap.optim.weights import weights_of
from hotlap.recipe import Recipe, part
from hotlap.result import Run
from hotlap.techniques import VIEWS, cutmix
from hotlap.techniques.alternating_flip import AlternatingFlip
from hotlap.techniques.cutout import Cutout
from hotlap.techniques.flip import Flip
from hotlap.techniques.jitter import Jitter
from hotlap.techniques.translate import Translate
from rounding import TRIALS, rounding

CPU = torch.device("cpu")
SEED = 7
PAGE_NAMES = (
    *("0-dawnbench", "1-gpu-preprocessing", "2-pool-first", "3-label-smoothing", "4-celu", "5-ghost-batch-norm"),
    *("6-frozen-bn-scale", "7-patch-whitening", "8-ema", "9-flip-tta"),
)
LENGTHS = (24, 40, 60, 80, 100)
PAGE = {f"cifar10-page/{name}": facts for name, facts in zip(PAGE_NAMES, page.RUNGS, strict=True)}
PAGE |= {f"cifar10-page-baseline/{n}-epochs": page.long_baseline(n) for n in LENGTHS}
PAGE |= {f"cifar10-page-final/{n}-epochs": page.long_final(n) for n in LENGTHS}
HLB = {f"cifar10-hlb/{name}": facts for name, facts in hlb.RUNGS.items()}
AIRBENCH = {f"cifar10-airbench/{name}": facts for name, facts in airbench.RUNGS.items()}
AIRBENCH["cifar10-airbench/96-faster"] = airbench.FASTER
MUON = {f"cifar10-airbench/{name}": facts for name, facts in airbench.MUON.items()}


@pytest.fixture(scope="session")
def cifar10() -> ImageData:
    return datasets.load("cifar10")


def cut(data: ImageData, train: int, test: int = 40) -> ImageData:
    return dataclasses.replace(
        data, x_train=data.x_train[:train], y_train=data.y_train[:train],
        x_test=data.x_test[:test], y_test=data.y_test[:test],
    )  # fmt: skip


# Names: what a parameter of a plain network is called in hotlap's.


def page_name(name: str) -> str:
    block, rest = name.split(".", 1)
    if block == "linear":
        return f"head.{rest}"
    layer, _, twin = block.partition("_")
    return f"blocks.{layer}_residual.layers.{'ab'.index(twin)}.{rest}" if twin else f"blocks.{block}.{rest}"


def speed_name(name: str) -> str:
    block, rest = name.split(".", 1)
    if not block.startswith("block"):
        return name
    layer, rest = rest.split(".")
    return f"groups.{int(block[-1]) - 1}.{layer[:4]}s.{int(layer[-1]) - 1}.{rest}"


def load(net: nn.Module, name_of: Callable[[str], str], weights: dict[str, Tensor]) -> None:
    """Set every tensor of a plain network to that of hotlap's; neither may have one that the other lacks."""
    names = {name: name_of(name) for name in net.state_dict()}
    assert set(names.values()) == set(weights)
    net.load_state_dict({name: weights[theirs] for name, theirs in names.items()})


# Both sides of one recipe.


class _EnoughError(Exception):
    """Ends a run after the steps that are compared."""


class _Losses:
    def __init__(self, count: int) -> None:
        self.losses: list[float] = []
        self.count = count

    def begin(self, recipe: Recipe, seed: int, total_steps: int, images_per_step: int) -> None:
        self.total = total_steps

    def remark(self, text: str) -> None: ...

    def accuracy(self, epochs: float, accuracy: float) -> None: ...

    def step(self, done: int, loss: Tensor) -> None:
        self.losses.append(loss.item())
        if done == self.count < self.total:
            raise _EnoughError


def hotlap_losses(recipe: Recipe, data: ImageData, count: int) -> tuple[list[float], Run | None]:
    """Train at most ``count`` steps; the run is None where that is not all of it."""
    observer = _Losses(count)
    try:
        run = train_once(recipe, lambda: data, SEED, device=CPU, observer=observer, timing_valid=False)
    except _EnoughError:
        run = None
    return observer.losses, run


def drawn(recipe: Recipe, data: ImageData) -> nn.Module:
    """The network as a run of ``SEED`` begins with it."""
    with isolated(CPU):
        program = Program(recipe, (3, 32, 32), 10, CPU, 1)
        program.initialise([Streams.of(SEED)], partial(first_images, recipe, data, CPU))
    return program.network


def copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def batches(recipe: Recipe, data: ImageData) -> Iterator[tuple[Tensor, Tensor]]:
    feed = make_feed(recipe, data, [Streams.of(SEED)], CPU)
    while True:
        yield from feed.epoch()


@dataclass
class Reading:
    """A plain network with hotlap's weights, and how to train it."""

    net: nn.Module
    name_of: Callable[[str], str]
    train: Callable[..., list[float]]
    view: Callable[[plain.Net, Tensor], Tensor]
    proxy: nn.Module | None = None


def reading_of(recipe: Recipe, data: ImageData) -> Reading:
    name, widths = recipe.name, tuple(recipe.model.options["widths"])
    extra: dict[str, Any] = {}
    if name in PAGE:
        net: nn.Module = page.PageNet(PAGE[name], *widths)
        read = Reading(net, page_name, page.train, plain.mirror_views if PAGE[name].mirror else plain.plain_view)
        facts: Any = PAGE[name]
    elif name in HLB:
        net = hlb.net_of(widths)
        read = Reading(net, speed_name, hlb.train, plain.mirror_views)
        facts = HLB[name]
    elif name in MUON:
        facts = MUON[name]
        net = airbench.muon_net_of(facts, widths)
        view = plain.six_views_of_a_quarter if facts.selective else plain.six_views
        read = Reading(net, speed_name, airbench.train_muon, view)
    else:
        facts = AIRBENCH[name]
        net = airbench.net_of(facts, widths)
        read = Reading(net, speed_name, airbench.train, plain.six_views)
        if recipe.selection is not None:
            of = recipe.selection.options
            small = airbench.net_of(airbench.PROXY, tuple(of["model"].options["widths"]), whitening_bias=False)
            load(small, speed_name, copied(drawn(dataclasses.replace(recipe, model=of["model"]), data)))
            extra = {"proxy": small, "keep": of["keep"]}
            read.proxy = small
    train = read.train
    read.train = lambda *args, **options: train(facts, net, *args, **options, **extra)
    return read


@dataclass(frozen=True)
class Case:
    """Steps that are compared, in a training whose epochs have ``per_epoch`` steps of ``batch`` images."""

    batch: int
    per_epoch: int
    count: int
    narrower: int


_PAGE = Case(batch=16, per_epoch=97, count=20, narrower=16)
_OTHER = Case(batch=8, per_epoch=3, count=20, narrower=8)
CASES = {
    **dict.fromkeys(PAGE, _PAGE),
    # Parts of a single image have hardly any spread at the end of the network, which blows rounding up.
    "cifar10-page/5-ghost-batch-norm": Case(batch=32, per_epoch=97, count=20, narrower=16),
    **dict.fromkeys(HLB, Case(batch=8, per_epoch=2, count=22, narrower=16)),
    **dict.fromkeys((*AIRBENCH, *MUON), _OTHER),
}
"""Every published recipe, each for twenty steps at least."""

WHOLE = {
    "cifar10-page/9-flip-tta": Case(batch=32, per_epoch=1, count=10, narrower=16),
    "cifar10-hlb/94": Case(batch=16, per_epoch=2, count=25, narrower=4),
    "cifar10-airbench/94": Case(batch=16, per_epoch=2, count=20, narrower=4),
    "cifar10-airbench/94-muon": Case(batch=16, per_epoch=1, count=8, narrower=4),
}


def narrowed(recipe: Recipe, by: int, batch: int) -> Recipe:
    """The recipe with fewer channels and smaller batches, of which a selection still keeps half.

    Both sides have the filters that hotlap finds, so a few images are enough to find some.
    """
    changes: dict[str, Any] = {"batch_size": batch}
    if by > 1:
        changes["model.widths"] = tuple(width // by for width in recipe.model.options["widths"])
        if recipe.model.options["whitening"] is not None:
            changes["model.whitening.images"] = 200
    if recipe.selection is not None:
        changes["selection.keep"] = batch // 2
    return recipe.with_changes(changes)


@dataclass
class Compared:
    """Both sides after training: hotlap's start and end, if it came to the end, and the plain network."""

    first: dict[str, Tensor]
    run: Run | None
    read: Reading
    found: list[float]
    expected: list[float]


def compare(recipe: Recipe, data: ImageData, case: Case) -> Compared:
    """Train both ways."""
    first = copied(drawn(recipe, data))
    found, run = hotlap_losses(recipe, data, case.count)
    read, expected = plain_losses(recipe, data, case, first)
    assert len(found) == len(expected) == case.count
    return Compared(first, run, read, found, expected)


def plain_losses(recipe: Recipe, data: ImageData, case: Case, first: dict[str, Tensor]) -> tuple[Reading, list[float]]:
    read = reading_of(recipe, data)
    load(read.net, read.name_of, first)
    options = {"batch": case.batch, "per_epoch": case.per_epoch, "count": case.count}
    if recipe.name not in PAGE:
        options["total"] = math.ceil(round(recipe.epochs * case.per_epoch, 6))
    return read, read.train(batches(recipe, data), **options)


def agree_up_to_rounding(recipe: Recipe, data: ImageData, case: Case) -> None:
    """Hold hotlap's losses in float32 to those of the plain reading, as far as rounding leaves that one itself.

    Where they part, the plain reading is repeated with rounding added, ten times at most: hotlap may be ten times as
    far away at a step as one of these. Of two values that nearly tie either may be the maximum, and from there on the
    difference grows.
    """
    compared = compare(recipe, data, case)
    expected = torch.tensor(compared.expected)
    wrong = ((torch.tensor(compared.found) - expected) / expected).abs()
    apart = torch.zeros(case.count)
    for seed in range(TRIALS):
        if (wrong <= (10 * apart.cummax(0).values).clamp_min(1e-5)).all():
            return
        with rounding(seed):
            _, losses = plain_losses(recipe, data, case, compared.first)
        apart = apart.maximum(((torch.tensor(losses) - expected) / expected).abs())
    pytest.fail(f"off by {wrong.tolist()}, where rounding explains {apart.tolist()}")


@pytest.mark.parametrize("name", CASES)
def test_the_first_losses_equal_those_of_a_plain_reading(name: str, cifar10: ImageData) -> None:
    case = CASES[name]
    recipe = narrowed(get_recipe(name), case.narrower, case.batch)
    # Three images too many for the last batch, which is dropped.
    agree_up_to_rounding(recipe, cut(cifar10, case.batch * case.per_epoch + 3), case)


@pytest.mark.parametrize("name", CASES)
def test_they_are_equal_to_more_digits_than_float32_has(name: str, cifar10: ImageData) -> None:
    case = CASES[name]
    recipe = narrowed(get_recipe(name), case.narrower, case.batch).with_changes({"engine.fused": False})
    with in_float64():
        compared = compare(recipe, cut(cifar10, case.batch * case.per_epoch + 3), case)
    assert compared.found == pytest.approx(compared.expected, rel=1e-8)
    assert len(set(compared.found)) == case.count


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10-page/0-dawnbench", "cifar10-airbench/96-faster", *WHOLE])
def test_the_first_losses_at_the_published_widths(name: str, cifar10: ImageData) -> None:
    case = Case(batch=16, per_epoch=97, count=20, narrower=1)
    data = cut(cifar10, case.batch * case.per_epoch + 3)
    agree_up_to_rounding(narrowed(get_recipe(name), 1, case.batch), data, case)


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_run_ends_with_the_same_weights_and_accuracy(name: str, cifar10: ImageData) -> None:
    case = WHOLE[name]
    recipe = narrowed(get_recipe(name), case.narrower, case.batch).with_changes({"engine.fused": False})
    data = cut(cifar10, case.batch * case.per_epoch + 3)
    with in_float64():
        compared = compare(recipe, data, case)
        assert compared.found == pytest.approx(compared.expected, rel=1e-8)
        ends_alike(compared, name, data)


def ends_alike(compared: Compared, name: str, data: ImageData) -> None:
    run, read = compared.run, compared.read
    assert run is not None and run.steps == WHOLE[name].count
    last = run.module.state_dict()
    for key, ours in read.net.state_dict().items():
        if not ours.is_floating_point():
            continue
        theirs, before = last[read.name_of(key)], compared.first[read.name_of(key)]
        moved = (ours - before).norm() / before.norm().clamp_min(1)
        if key == "whiten.weight" or ("norm" in key and key.endswith(".weight")):
            assert torch.allclose(ours, before, rtol=1e-12) and torch.allclose(theirs, before, rtol=1e-12), key
        else:
            assert moved > 1e-6 and (theirs - ours).norm() <= 1e-6 * (ours - before).norm(), key
    pixels = plain.PAGE_PIXELS if name in PAGE else plain.PIXELS
    images, labels = plain.normalised(data.x_test, pixels), torch.from_numpy(data.y_test.astype("int64"))
    load(read.net, read.name_of, last)
    with torch.no_grad():
        logits = read.view(read.net.eval(), images)
    assert run.accuracy == pytest.approx((logits.argmax(1) == labels).double().mean().item())


def test_the_proxy_learns_what_the_plain_one_does(monkeypatch: pytest.MonkeyPatch, cifar10: ImageData) -> None:
    made: list[Selecting] = []
    first: list[dict[str, Tensor]] = []

    def kept(*args: Any) -> Selecting:
        made.append(Selecting(*args))
        first.append({name: tensor.clone() for name, tensor in made[0].state_dict()["network"].items()})
        return made[0]

    monkeypatch.setattr("hotlap.engine.torch_trainer.Selecting", kept)
    recipe = narrowed(get_recipe("cifar10-airbench/96-faster"), 8, 16).with_changes({"engine.fused": False})
    with in_float64():
        read = compare(recipe, cut(cifar10, 51), Case(batch=16, per_epoch=3, count=10, narrower=8)).read
    assert read.proxy is not None
    for name, ours in read.proxy.named_parameters():
        theirs, before = made[0].state_dict()["network"][speed_name(name)], first[0][speed_name(name)]
        assert ours.requires_grad == bool((ours != before).any()), name
        assert (theirs - ours).norm() <= 1e-6 * (ours - before).norm(), name


@pytest.mark.parametrize("name", [*HLB, *AIRBENCH, *MUON, "cifar10-page/9-flip-tta", "cifar10-page-final/24-epochs"])
def test_test_time_augmentation(name: str, cifar10: ImageData) -> None:
    recipe, data = narrowed(get_recipe(name), 8, 16), cut(cifar10, 32)
    network = drawn(recipe, data)
    read = reading_of(recipe, data)
    load(read.net, read.name_of, copied(network))
    pixels = plain.PAGE_PIXELS if name in PAGE else plain.PIXELS
    images = plain.normalised(data.x_test, pixels)
    assert recipe.evaluation.augmentation is not None
    with torch.no_grad():
        expected = read.view(read.net.eval(), images)
        found = VIEWS.build(recipe.evaluation.augmentation).logits(network.eval(), images, 25)
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5)


# Learning rates and decays of every step at the published size.


def published_rates(name: str, per_epoch: int, total: int) -> tuple[float, list[dict[str, tuple[float, float]]]]:
    """What the published loss is of the mean loss, and for each step the rates of each kind of parameter."""
    if name in PAGE:
        return page.BATCH, [page.rates(PAGE[name], step, per_epoch, page.BATCH) for step in range(total)]
    if name in HLB:
        of_weights, of_biases = hlb.decays(hlb.BATCH)
        curve = hlb.learning_rates(total)
        return 512, [{"weights": (w, of_weights), "biases": (b, of_biases)} for w, b in curve]
    if name in MUON:
        batch = MUON[name].batch
        return batch, [airbench.muon_rates(step, per_epoch, total, batch) for step in range(total)]
    facts = AIRBENCH[name]
    return facts.batch, [airbench.rates(facts, step, per_epoch, total, facts.batch) for step in range(total)]


@pytest.mark.parametrize("name", [*PAGE, *HLB, *AIRBENCH, *MUON])
def test_rates_of_every_step(name: str) -> None:
    recipe = get_recipe(name)
    per_epoch = 50_000 // recipe.batch_size
    facts: Any = {**PAGE, **HLB, **AIRBENCH, **MUON}[name]
    total = math.ceil(round(facts.epochs * per_epoch, 6))
    narrow = recipe.with_changes({"model.widths": tuple(w // 8 for w in recipe.model.options["widths"])})
    network = build_network(narrow, (3, 32, 32), 10, CPU)
    updates = Updates(recipe, weights_of(network, recipe.batch_size))
    called = {id(p): name for name, p in network.named_parameters()}
    scale, expected = published_rates(name, per_epoch, total)
    groups = []
    for group in updates.optimizer.param_groups:
        kinds = {airbench.kind(called[id(p)]) for p in group["params"]}
        if "filters" not in expected[0]:
            kinds = {
                "biases" if kind == "biases" and "norm" in called[id(group["params"][0])] else "weights"
                for kind in kinds
            }
        groups.append(kinds)
    assert sorted(id(p) for g in updates.optimizer.param_groups for p in g["params"]) == sorted(called)
    for step in range(total):
        # Steps without gradients take most of the time; one in fifty stands for what they do to rates.
        (updates.rates if step % 50 else updates.step)(step, total, per_epoch)
        for kinds, group in zip(groups, updates.optimizer.param_groups, strict=True):
            of_muon = "renormalise_every" in group
            for kind in kinds:
                lr, decay = expected[step][kind]
                lr = lr if of_muon else lr * scale
                assert math.isclose(group["lr"], lr, rel_tol=1e-9, abs_tol=1e-14), (step, kind, group["lr"], lr)
                assert of_muon or math.isclose(group["weight_decay"], decay / scale, rel_tol=1e-9)


# Averages of weights at the published length.


def published_averages(name: str, per_epoch: int, total: int) -> tuple[int, Callable[[int], float]]:
    """The steps done when the average begins as a copy of the weights, and its decay after each five steps more."""
    if name in HLB:
        return hlb.average_begins(HLB[name], per_epoch), lambda done: 0.95**5 * (done / total) ** 3
    if name in PAGE:
        return 0, lambda done: 0.99**5
    return 0, lambda done: 0.95**5 * (done / total) ** 3


AVERAGED = [*(name for name, facts in PAGE.items() if facts.averaged), *HLB, *AIRBENCH]


@pytest.mark.parametrize("name", AVERAGED)
def test_averages_over_a_whole_training(name: str) -> None:
    recipe = get_recipe(name)
    per_epoch = 50_000 // recipe.batch_size
    total = math.ceil(round(recipe.epochs * per_epoch, 6))
    begins, decay = published_averages(name, per_epoch, total)
    network = nn.Linear(1, 1, bias=False).double()
    averaging = averaging_of(recipe, network)
    weight, average = network.weight.data, network.weight.item()

    def holds(expected: float) -> bool:
        # pytest.approx takes longer than the average itself.
        return math.isclose(weight.item(), expected, rel_tol=1e-9)

    for done in range(1, total + 1):
        trained = math.sin(done)
        weight.fill_(trained)
        averaging.update(done, total)
        if done == begins:
            average = trained
        elif done > begins and done % 5 == 0:
            average = decay(done) * average + (1 - decay(done)) * trained
        copied_back = name not in PAGE and done >= begins and done % 5 == 0
        assert holds(average if copied_back else trained), done
        with averaging.evaluating():
            assert holds(average if done >= begins else trained), done
    averaging.finish()
    assert holds(average)


# Published numbers that no training of a small network shows.


def augmentations_of(name: str) -> tuple[tuple[Any, ...], Any]:
    """The published augmentations in order, and the mixing."""
    if name in PAGE:
        facts: Any = PAGE[name]
        parts = [part("translate", max_px=4), part("flip", share=0.5)]
        parts += [part("cutout", size=facts.cutout)] if facts.cutout else []
        return tuple(part("grouped", of=of, options=200) if facts.grouped else of for of in parts), None
    if name in HLB:
        mixing = part("cutmix", size=HLB[name].cutmix_side, last_epochs=float(HLB[name].cutmix_epochs))
        return (part("translate", max_px=2), part("flip", share=0.5)), mixing
    if name in MUON:
        jitter = MUON[name].jitter
        more = (part("jitter", brightness=jitter[0], contrast=jitter[1]),) if jitter else ()
        return (part("alternating-flip"), part("translate", max_px=2), *more), None
    facts = AIRBENCH[name]
    cutout = (part("cutout", size=facts.cutout),) if facts.cutout else ()
    return (part("alternating-flip"), part("translate", max_px=facts.translate), *cutout), None


@pytest.mark.parametrize("name", [*PAGE, *HLB, *AIRBENCH, *MUON])
def test_published_numbers(name: str) -> None:
    recipe = get_recipe(name)
    facts: Any = {**PAGE, **HLB, **AIRBENCH, **MUON}[name]
    assert recipe.epochs == facts.epochs
    assert recipe.batch_size == (page.BATCH if name in PAGE else hlb.BATCH if name in HLB else facts.batch)
    assert recipe.feed.drop_last and recipe.feed.shuffle == "every-epoch"
    pixels = plain.PAGE_PIXELS if name in PAGE else plain.PIXELS
    assert recipe.feed.mean is not None and recipe.feed.std is not None
    assert [[255 * x for x in row] for row in (recipe.feed.mean, recipe.feed.std)] == [
        pytest.approx(row) for row in pixels
    ]
    assert (recipe.augment, recipe.mixing) == augmentations_of(name)
    widths = (64, 128, 256, 512) if name in PAGE else facts.widths
    assert tuple(recipe.model.options["widths"]) == widths
    evaluated = 512 if name in PAGE else 2500 if name in HLB else 2000
    assert recipe.evaluation.batch_size == evaluated
    if name in PAGE:
        views = part("mirror") if facts.mirror else None
    elif name in HLB:
        views = part("mirror")
    else:
        views = part("six-view", shift=1)
        views = part("selective", of=views, share=0.25) if name in MUON and MUON[name].selective else views
    assert recipe.evaluation.augmentation == views
    assert recipe.engine.precision == "fp16"
    norm = (0.1, 1e-5) if name in PAGE else (getattr(facts, "norm_momentum", 0.4), 1e-12)
    assert (recipe.model.options["norm_momentum"], recipe.model.options["norm_eps"]) == norm
    if (whitening := recipe.model.options["whitening"]) is not None:
        assert whitening.options["images"] == (10_000 if name in PAGE else 50_000 if name in HLB else 5_000)
    if name.endswith("96-faster"):
        assert recipe.selection is not None
        of = recipe.selection.options
        assert (of["keep"], of["train_every"]) == (512, 4)
        small, large = of["model"].options, recipe.model.options
        assert tuple(small["widths"]) == airbench.PROXY.widths
        assert small["norm_momentum"] == airbench.PROXY.norm_momentum
        assert small["whitening"].options == {**large["whitening"].options, "bias": "none"}


def test_published_figures() -> None:
    def times(ladder: str) -> dict[str, float | None]:
        from hotlap.ladder import Ladder, get_ladder

        found = get_ladder(ladder)
        assert isinstance(found, Ladder)
        return {rung.name: rung.published.time_s for rung in found.rungs if rung.published.time_s is not None}

    assert list(times("cifar10-page").values()) == [75, 70, 64, 59, 52, 46, 43, 36, 34, 26]
    assert times("cifar10-hlb") == {"94": 6.3, "95.79": 110}
    found = times("cifar10-airbench")
    assert found.pop("94-hiverge") == pytest.approx(2.0, abs=0.016)
    assert found == {"94": 3.83, "95": 10.4, "96": 34.7, "96-faster": 27.3, "94-muon": 2.59}


# What augmentations do to images, for the numbers that the feed draws.


@pytest.fixture
def choices(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Whatever the augmentations of a feed are told to do, in order: (name, numbers of each image)."""
    seen: list[tuple[str, Any]] = []

    def record(kind: type, method: str, of: Callable[..., tuple[str, Any]]) -> None:
        original = getattr(kind, method)

        def recorded(self: Any, *args: Any) -> Any:
            result = original(self, *args)
            seen.append(of(self, *args))
            return result

        monkeypatch.setattr(kind, method, recorded)

    record(Translate, "apply", lambda self, images, drawn: (f"translate {self.max_px}", drawn))
    record(Flip, "apply", lambda self, images, drawn: ("flip", drawn[:, 0] == 1))
    record(Cutout, "apply", lambda self, images, drawn: (f"cutout {self.side}", drawn))
    record(Jitter, "apply", lambda self, images, drawn: ("jitter", drawn))

    def turn(self: AlternatingFlip, images: Tensor, rng: torch.Generator, moment: Any) -> tuple[str, Any]:
        assert self.kept is not None
        first = self.kept[moment.index]
        return "flip", first if moment.epoch % 2 == 0 else ~first

    record(AlternatingFlip, "__call__", turn)
    original = cutmix.cutmix

    def mix(images: Tensor, targets: Tensor, partners: Tensor, corners: Tensor, side: int) -> tuple[Tensor, Tensor]:
        seen.append((f"cutmix {side}", torch.cat((partners[:, None], corners), 1)))
        return original(images, targets, partners, corners, side)

    monkeypatch.setattr(cutmix, "cutmix", mix)
    monkeypatch.setattr(augmenting, "draw", partial(drawn_together, seen, augmenting.draw))
    return seen


def drawn_together(seen: list[tuple[str, Any]], draw: Callable[..., Tensor], *args: Any) -> Tensor:
    """Where kernels mirror and shift, augmentations only say by how much each image is."""
    with pytest.MonkeyPatch.context() as patch:

        def record(kind: type[Translate | Flip], of: Callable[[Any, Tensor], tuple[str, Any]]) -> None:
            original = kind.draw

            def recorded(self: Any, *args: Any) -> Tensor:
                numbers: Tensor = original(self, *args)
                seen.append(of(self, numbers))
                return numbers

            patch.setattr(kind, "draw", recorded)

        record(Translate, lambda self, numbers: (f"translate {self.max_px}", numbers))
        record(Flip, lambda self, numbers: ("flip", numbers[:, 0] == 1))
        return draw(*args)


def augmented(kind: str, images: Tensor, numbers: Tensor) -> Tensor:
    name, _, size = kind.partition(" ")
    made = []
    for image, chosen in zip(images, numbers.tolist(), strict=True):
        if name == "translate":
            made.append(plain.shifted(image, *chosen, int(size)))
        elif name == "flip":
            made.append(plain.mirrored(image) if chosen else image)
        elif name == "cutout":
            made.append(plain.blanked(image, *chosen, int(size)))
        elif name == "jitter":
            shift, factor = chosen
            made.append((image - image.mean()) * factor + image.mean() + shift)
        else:
            partner, row, column = chosen
            made.append(plain.patched(image, images[partner], row, column, int(size)))
    return torch.stack(made)


ORDERS = {
    "cifar10-page/0-dawnbench": ["translate 4", "flip", "cutout 8"],
    "cifar10-page/1-gpu-preprocessing": ["translate 4", "flip", "cutout 8"],
    "cifar10-page/7-patch-whitening": ["translate 4", "flip", "cutout 5"],
    "cifar10-page/9-flip-tta": ["translate 4", "flip"],
    "cifar10-hlb/94": ["translate 2", "flip", "cutmix 3"],
    "cifar10-hlb/95.79": ["translate 2", "flip", "cutmix 10"],
    "cifar10-airbench/94": ["flip", "translate 2"],
    "cifar10-airbench/96": ["flip", "translate 4", "cutout 12"],
    "cifar10-airbench/94-hiverge": ["flip", "translate 2", "jitter"],
}


@pytest.mark.parametrize("fused", [True, False], ids=["kernels", "plain"])
@pytest.mark.parametrize("name", ORDERS)
def test_images_are_augmented_as_published(
    name: str, fused: bool, choices: list[tuple[str, Any]], cifar10: ImageData
) -> None:
    recipe = get_recipe(name).with_changes({"batch_size": 12, "engine.fused": fused})
    data = cut(cifar10, 30)
    base = plain.normalised(data.x_train, plain.PAGE_PIXELS if name in PAGE else plain.PIXELS)
    order = torch.Generator().manual_seed(Streams.of(SEED).order)
    feed = make_feed(recipe, data, [Streams.of(SEED)], CPU)
    turned = []
    for epoch in range(12):
        permutation = torch.randperm(30, generator=order)
        choices.clear()
        flips = torch.zeros(30, dtype=torch.bool)
        for step, (images, labels) in enumerate(feed.epoch()):
            index = permutation[12 * step : 12 * step + 12]
            mixing = name in HLB and hlb.mixes(HLB[name], epoch)
            expected = [kind for kind in ORDERS[name] if mixing or "cutmix" not in kind]
            assert [kind for kind, _ in choices] == expected
            made = base[index]
            targets = torch.eye(10)[torch.from_numpy(data.y_train.astype("int64"))[index]]
            for kind, numbers in choices:
                made = augmented(kind, made, numbers)
                if kind == "flip":
                    flips[index] = numbers
                if "cutmix" in kind:
                    area = HLB[name].cutmix_side ** 2 / 1024
                    targets = (1 - area) * targets + area * targets[numbers[:, 0]]
            assert torch.allclose(images, made, rtol=0, atol=2e-5)
            assert torch.allclose(labels if labels.ndim == 2 else torch.eye(10)[labels], targets, atol=1e-6)
            choices.clear()
        turned.append(flips[permutation[:24]].float().mean().item())
    assert 0.3 < sum(turned) / 12 < 0.7


# How networks start.


@pytest.mark.parametrize("name", ["cifar10-page/7-patch-whitening", "cifar10-hlb/94", "cifar10-airbench/94"])
@pytest.mark.parametrize("most", [1000, pytest.param(50_000, marks=pytest.mark.slow)])
def test_whitening_is_that_of_the_first_images(name: str, most: int, cifar10: ImageData) -> None:
    of_page, of_hlb = name in PAGE, name in HLB
    whiten = drawn(get_recipe(name), cut(cifar10, most)).get_submodule("blocks.whiten" if of_page else "whiten")
    count = min(most, 10_000 if of_page else 50_000 if of_hlb else 5_000)
    images = plain.normalised(cifar10.x_train[:count], plain.PAGE_PIXELS if of_page else plain.PIXELS)
    kernel, eps, parts = (3, 1e-2, 1) if of_page else (2, 1e-2, 10) if of_hlb else (2, 5e-4, 1)
    expected = plain.whitening(images, kernel, eps, parts=parts, centred=of_hlb)
    same_up_to_sign(whiten, expected, negated=not of_page)


def same_up_to_sign(layer: nn.Module, expected: Tensor, *, negated: bool) -> None:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    found = weight.double()
    if negated:
        found, negative = found.chunk(2)
        assert torch.equal(found, -negative)
    for ours, theirs in zip(found, expected, strict=True):
        sign = (ours * theirs).sum().sign()
        assert torch.allclose(ours, sign * theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item())


def like_default(weight: Tensor) -> None:
    """PyTorch's default for convolutions and linear layers: uniform, with a bound of 1 / sqrt(fan in)."""
    bound = weight[0].numel() ** -0.5
    assert weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert weight.mean().abs() < 4 * bound / math.sqrt(3 * weight.numel())


def identity_like(weight: Tensor) -> Tensor:
    out = torch.zeros_like(weight)
    for channel in range(min(weight.shape[:2])):
        out[channel, channel, 1, 1] = 1
    return out


def convolutions(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, p in network.named_parameters():
        if p.ndim == 4:
            yield name, p.detach()


@pytest.mark.parametrize("name", ["cifar10-page/0-dawnbench", "cifar10-page/9-flip-tta"])
def test_page_starts_with_the_defaults(name: str, cifar10: ImageData) -> None:
    network = drawn(get_recipe(name), cut(cifar10, 100))
    for _, weight in convolutions(network):
        like_default(weight)
    like_default(network.get_parameter("head.weight").detach())
    norms_start_plain(network)


def test_hlb_starts_near_the_identity(cifar10: ImageData) -> None:
    network = drawn(get_recipe("cifar10-hlb/94"), cut(cifar10, 100))
    for name, weight in convolutions(network):
        identity = identity_like(weight)
        if "convs.1" in name:
            assert torch.equal(weight, identity)
            continue
        # Default plus identity, at the default's spread: undoing that shows the default.
        default = 1 / math.sqrt(3 * weight[0].numel())
        assert weight.std().item() == pytest.approx(default, rel=0.03)
        wide = math.sqrt(default**2 + identity.var().item())
        rest = weight / default * wide - identity
        assert rest.std().item() == pytest.approx(default, rel=0.05)
        assert rest.abs().max() < 1.2 * weight[0].numel() ** -0.5
    like_default(network.get_parameter("head.weight").detach())
    norms_start_plain(network)


@pytest.mark.parametrize("name", ["94", "96", "94-muon"])
def test_airbench_starts_with_partial_identities(name: str, cifar10: ImageData) -> None:
    network = drawn(get_recipe(f"cifar10-airbench/{name}"), cut(cifar10, 100))
    for _, weight in convolutions(network):
        channels = weight.shape[1]
        assert torch.equal(weight[:channels], identity_like(weight)[:channels])
        if len(weight) > channels:
            like_default(weight[channels:])
    head = network.get_parameter("head.weight").detach()
    bias = network.get_parameter("whiten.bias").detach()
    if name == "94-muon":
        assert head.std().item() == pytest.approx(1, rel=1e-5)
        assert 0 < bias.abs().max() <= 12**-0.5 and bias.std() > 0.1
    else:
        like_default(head)
        assert not bias.any()
    norms_start_plain(network)


def norms_start_plain(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and not module.bias.any()
            assert (module.running_var == 1).all() and not module.running_mean.any()  # type: ignore[union-attr,operator]
