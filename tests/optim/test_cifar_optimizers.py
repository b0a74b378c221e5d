"""The optimizers of the CIFAR-10 recipes, against their published rules spelled out."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hotlap.engine.updates import Updates
from hotlap.errors import InputError
from hotlap.optim import OPTIMIZERS, STACKABLE
from hotlap.optim.muon import COEFFICIENTS, orthogonalise
from hotlap.optim.weights import Weights, weights_of
from hotlap.recipe import Component, part
from tiny import tiny

BATCH = 40
STEPS = 5


class Net(nn.Module):
    """One parameter of each role, and a tall, a wide and a narrow filter."""

    def __init__(self) -> None:
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        self.whiten.weight.requires_grad_(False)
        self.whiten.role = "whitening"
        self.wide = nn.Conv2d(24, 16, 3, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.norm.weight.requires_grad_(False)
        self.tall = nn.Conv2d(2, 40, 3, bias=False)
        self.head = nn.Linear(16, 10, bias=False)
        self.head.role = "head"


def make(dtype: torch.dtype = torch.float32, memory_format: Any = torch.contiguous_format) -> tuple[Net, Weights]:
    torch.manual_seed(0)
    net = Net().to(dtype=dtype, memory_format=memory_format)  # type: ignore[call-overload]
    nn.init.normal_(net.norm.bias)
    return net, weights_of(net, BATCH)


def gradients(weights: list[nn.Parameter], step: int) -> list[Tensor]:
    """Gradients of the summed loss."""
    rng = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=rng).to(p).mul(BATCH) for p in weights]


def run(optimizer: Any, weights: list[nn.Parameter], lrs: list[float], start: int = 0) -> None:
    """Take steps on the mean loss, with the learning rates of all groups multiplied by factors."""
    peaks = [group["lr"] for group in optimizer.param_groups]
    for step, factor in enumerate(lrs, start):
        for p, g in zip(weights, gradients(weights, step), strict=True):
            p.grad = (g / BATCH).contiguous(memory_format=torch.preserve_format)
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * factor
        optimizer.step()
    for group, peak in zip(optimizer.param_groups, peaks, strict=True):
        group["lr"] = peak


FACTORS = [0.2, 0.6, 1.0, 0.5, 0.1]


def close(a: list[nn.Parameter], b: list[nn.Parameter], rtol: float = 1e-5) -> bool:
    return all((x - y).norm() <= rtol * x.norm() for x, y in zip(a, b, strict=True))


def torch_sgd(weights: Weights, lr: dict[str, float], decay: dict[str, float], momentum: float) -> None:
    """PyTorch's SGD on summed gradients, with options for norms and for the others, as the published code has it."""
    norms = weights.by_role["norm"]
    others = [p for p in weights if not any(p is n for n in norms)]
    groups = [
        {"params": some, "lr": lr[key], "weight_decay": decay[key]}
        for some, key in ((norms, "norm"), (others, "other"))
    ]
    optimizer = torch.optim.SGD(groups, momentum=momentum, nesterov=True)  # type: ignore[arg-type]
    for step, factor in enumerate(FACTORS):
        for p, g in zip(weights, gradients(weights, step), strict=True):
            p.grad = g
        for group, key in zip(optimizer.param_groups, ("norm", "other"), strict=True):
            group["lr"] = lr[key] * factor
        optimizer.step()


def test_decoupled_sgd_is_airbenchs() -> None:
    _, ours = make()
    options = {"lr": 11.5, "momentum": 0.85, "weight_decay": 0.0153, "bias_scale": 64.0, "unit": "kilostep"}
    run(OPTIMIZERS.build(part("decoupled-sgd", **options), params=ours), ours, FACTORS)
    _, theirs = make()
    k = 1024 * (1 + 1 / (1 - 0.85))
    lr, decay = 11.5 / k, 0.0153 * BATCH / k
    torch_sgd(theirs, {"norm": lr * 64, "other": lr}, {"norm": decay / (lr * 64), "other": decay / lr}, 0.85)
    assert close(ours, theirs)


def test_decoupled_sgd_per_image_is_that_of_airbenchs_muon_recipe() -> None:
    _, ours = make()
    options = {"lr": 0.053, "momentum": 0.85, "weight_decay": 2e-6, "bias_scale": 1.0, "unit": "image"}
    run(OPTIMIZERS.build(part("decoupled-sgd", **options), params=ours), ours, FACTORS)
    _, theirs = make()
    decay = 2e-6 * BATCH / 0.053
    torch_sgd(theirs, {"norm": 0.053, "other": 0.053}, {"norm": decay, "other": decay}, 0.85)
    assert close(ours, theirs)


def test_scaled_sgd_is_hlbs() -> None:
    """With the loss summed and multiplied by 512 / batch, learning rates by 1 / 512, and decay by the batch."""
    _, ours = make()
    options = {"lr": 1.525, "momentum": 0.85, "weight_decay": 6.687e-4, "bias_scale": 64.0}
    component = part("scaled-sgd", **options, loss_images=512, momentum_of="gradients")
    run(OPTIMIZERS.build(component, params=ours), ours, FACTORS)
    _, theirs = make()
    scale = 512 / BATCH  # of the loss; taken into the learning rate and out of the decay here
    lr, decay = 1.525 / 512 * scale, 6.687e-4 * BATCH / scale
    torch_sgd(theirs, {"norm": lr * 64, "other": lr}, {"norm": decay / 64, "other": decay}, 0.85)
    assert close(ours, theirs)


@pytest.mark.parametrize("bias_scale", [1.0, 64.0])
def test_scaled_sgd_is_pages(bias_scale: float) -> None:
    """His momentum buffer sums steps, each with the learning rate of its time."""
    _, ours = make()
    component = part(
        "scaled-sgd", lr=0.6, momentum=0.9, weight_decay=5e-4, bias_scale=bias_scale, loss_images=None,
        momentum_of="steps",
    )  # fmt: skip
    run(OPTIMIZERS.build(component, params=ours), ours, FACTORS)
    _, theirs = make()
    velocity = [torch.zeros_like(p) for p in theirs]
    with torch.no_grad():
        for step, factor in enumerate(FACTORS):
            for p, v, g in zip(theirs, velocity, gradients(theirs, step), strict=True):
                scale = bias_scale if any(p is n for n in theirs.by_role["norm"]) else 1.0
                move = -(0.6 * factor / BATCH * scale) * (g + 5e-4 * BATCH / scale * p)
                v.mul_(0.9).add_(move)
                p.add_(move + 0.9 * v)
    assert close(ours, theirs)


def muon_options(**changes: Any) -> Component:
    options = {"lr": 0.24, "momentum": 0.6, "nesterov": True, "steps": 3, "renormalise_every": 1}
    return part("muon", **{**options, "batched": False, "dtype": "fp32", **changes})


def muon_weights(memory_format: Any = torch.contiguous_format) -> Weights:
    _, weights = make(memory_format=memory_format)
    filters = weights.by_role["filters"]
    return Weights({"filters": filters, "norm": [], "whitening": [], "head": []}, filters, BATCH)


def spelled_out_muon(weights: Weights, every: int, nesterov: bool) -> None:
    """The rule of airbench94_muon on the summed gradients, in float64."""
    a, b, c = 3.4445, -4.7750, 2.0315
    buffers = [torch.zeros_like(p) for p in weights]
    with torch.no_grad():
        for step, factor in enumerate(FACTORS):
            for p, buffer, g in zip(weights, buffers, gradients(weights, step), strict=True):
                buffer.mul_(0.6).add_(g)
                u = (g + 0.6 * buffer if nesterov else buffer).double().reshape(len(g), -1)
                u = u / (u.norm() + 1e-7)
                for _ in range(3):
                    m = u @ u.T
                    u = a * u + (b * m + c * m @ m) @ u
                if every and step % every == 0:
                    p.mul_(len(p) ** 0.5 / p.norm())
                p.sub_(0.24 * factor * u.view(p.shape).float())


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("batched", [True, False])
@pytest.mark.parametrize(("every", "nesterov"), [(1, True), (3, True), (0, False)])
def test_muon_is_airbenchs(batched: bool, every: int, nesterov: bool, memory_format: Any) -> None:
    ours, theirs = muon_weights(memory_format), muon_weights()
    component = muon_options(batched=batched, renormalise_every=every, nesterov=nesterov)
    run(OPTIMIZERS.build(component, params=ours), ours, FACTORS)
    spelled_out_muon(theirs, every, nesterov)
    assert close(ours, theirs, rtol=1e-4)


def test_muon_agrees_with_pytorchs() -> None:
    """PyTorch's averages gradients instead of summing them, which orthogonal updates do not see."""
    torch.manual_seed(1)
    ours, theirs = (nn.Parameter(torch.randn(24, 60)) for _ in range(2))
    theirs.data.copy_(ours)
    start = ours.detach().clone()
    weights = Weights({"filters": [ours], "norm": [], "whitening": [], "head": []}, [ours], BATCH)
    mine = OPTIMIZERS.build(muon_options(renormalise_every=0), params=weights)
    reference = torch.optim.Muon([theirs], lr=0.24, weight_decay=0.0, momentum=0.6, nesterov=True, ns_steps=3)
    for step in range(STEPS):
        ours.grad = theirs.grad = gradients([ours], step)[0]
        mine.step()
        reference.step()
    # PyTorch's rounds to bfloat16, about 1 % of each step.
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()


@pytest.mark.parametrize("shape", [(64, 216), (256, 576), (50, 50)])
def test_newton_schulz_brings_singular_values_near_to_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = {}
    for steps in (3, 5):
        found[steps] = torch.linalg.svdvals(orthogonalise(torch.randn(1, *shape), (COEFFICIENTS,) * steps, 1e-7))
        assert found[steps].max() < 1.25
    if shape[0] != shape[1]:  # square ones have singular values of almost 0
        assert found[3].min() > 0.4
        assert found[5].min() > 0.65


def test_newton_schulz_does_not_see_padding_and_needs_no_more_than_bfloat16() -> None:
    torch.manual_seed(0)
    matrix, three = torch.randn(1, 20, 50), (COEFFICIENTS,) * 3
    alone = orthogonalise(matrix, three, 1e-7)
    padded = torch.zeros(2, 32, 64)
    padded[1, :20, :50] = matrix
    together = orthogonalise(padded, three, 1e-7)
    assert torch.allclose(together[1, :20, :50], alone[0], atol=1e-6)
    assert together.count_nonzero() == alone.count_nonzero()
    rough = orthogonalise(matrix.bfloat16(), three, 1e-7).float()
    assert (rough - alone).norm() / alone.norm() < 0.03


BY_ROLE = part(
    "by-role",
    filters=muon_options(batched=True, renormalise_every=3, dtype="bf16"),
    norm=part("decoupled-sgd", lr=0.053, momentum=0.85, weight_decay=2e-6, bias_scale=1.0, unit="image"),
    whitening=part("decoupled-sgd", lr=0.053, momentum=0.85, weight_decay=2e-6, bias_scale=1.0, unit="image"),
    head=part("decoupled-sgd", lr=0.67, momentum=0.85, weight_decay=2e-6, bias_scale=1.0, unit="image"),
    whitening_epochs=None,
    whitening_schedule=part("linear", epochs=3),
)
BY_SHAPE = part(
    "by-shape",
    matrices=part("muon-polar", **muon_options(batched=True).options),
    rest=part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-3),
    scales=(0.5, 2.0),
)
AIRBENCH94 = part(
    "by-role",
    filters=part("decoupled-sgd", lr=11.5, momentum=0.85, weight_decay=0.0153, bias_scale=64.0, unit="kilostep"),
    norm=None,
    whitening=None,
    head=None,
    whitening_epochs=3,
    whitening_schedule=None,
)


def factors_of_whitening(component: Component, schedule: Component, steps: int) -> list[float]:
    """What the engine makes of the whitening bias' learning rate, as a share of its peak, at 2 steps an epoch."""
    net, weights = make()
    updates = Updates(tiny(optimizer=component, schedule=schedule), weights)
    group = next(g for g in updates.optimizer.param_groups if any(p is net.whiten.bias for p in g["params"]))
    peak, found = group["lr"], []
    for step in range(steps):
        for p, g in zip(weights, gradients(weights, step), strict=True):
            p.grad = g / BATCH
        updates.step(step, steps, 2)
        found.append(group["lr"] / peak)
    return found


def test_the_whitening_bias_has_its_own_schedule() -> None:
    linear = part("linear", epochs=None)
    assert factors_of_whitening(BY_ROLE, linear, 8) == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0])
    assert factors_of_whitening(AIRBENCH94, linear, 8) == pytest.approx([1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 0, 0])


def test_a_frozen_whitening_bias_does_not_move_and_all_else_moves_as_if_it_were_not_apart() -> None:
    net, weights = make()
    updates = Updates(tiny(optimizer=AIRBENCH94, schedule=part("constant")), weights)
    plain, all_weights = make()
    reference = OPTIMIZERS.build(AIRBENCH94.options["filters"], params=all_weights)
    for step in range(8):
        before = net.whiten.bias.clone()  # type: ignore[union-attr]
        for p, q, g in zip(weights, all_weights, gradients(weights, step), strict=True):
            p.grad, q.grad = g / BATCH, g / BATCH
        updates.step(step, 8, 2)
        reference.step()
        assert torch.equal(net.whiten.bias, before) == (step >= 6)  # type: ignore[arg-type]
        assert torch.equal(net.whiten.bias, plain.whiten.bias) == (step < 6)  # type: ignore[arg-type]
    for name, p in net.named_parameters():
        assert name == "whiten.bias" or torch.equal(p, plain.get_parameter(name)), name


@pytest.mark.parametrize("component", [AIRBENCH94, BY_ROLE])
def test_no_gradient_is_asked_for_of_a_whitening_bias_that_is_done(component: Component) -> None:
    net, weights = make()
    updates = Updates(tiny(optimizer=component), weights)
    bias = net.whiten.bias
    assert isinstance(bias, torch.Tensor)
    for step in (0, 5, 6, 7, 5):
        updates.zero_grad(step, 2)
        assert bias.requires_grad is (step < 6)
        assert all(p.requires_grad for p in weights if p is not bias)
    compiled = tiny(optimizer=component, engine__compile=True)
    updates = Updates(compiled, weights)
    updates.zero_grad(7, 2)
    assert bias.requires_grad


def test_by_role_gives_each_role_to_its_optimizer() -> None:
    net, weights = make()
    optimizer = OPTIMIZERS.build(BY_ROLE, params=weights)
    held = [{id(p) for p in group["params"]} for group in optimizer.param_groups]
    assert held == [
        {id(net.wide.weight), id(net.tall.weight)}, {id(net.norm.bias)}, {id(net.whiten.bias)}, {id(net.head.weight)}
    ]  # fmt: skip
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(
        [0.24, 0.053 * BATCH, 0.053 * BATCH, 0.67 * BATCH]
    )
    for p in weights:
        p.grad = torch.ones_like(p)
    optimizer.zero_grad()
    assert all(p.grad is None for p in weights)


@pytest.mark.parametrize(
    "component",
    [
        muon_options(renormalise_every=3),
        BY_ROLE,
        BY_SHAPE,
        AIRBENCH94,
        AIRBENCH94.options["filters"],
        part(
            "scaled-sgd",
            lr=0.4,
            momentum=0.9,
            weight_decay=5e-4,
            bias_scale=64.0,
            loss_images=None,
            momentum_of="steps",
        ),
    ],
    ids=["muon", "airbench94_muon", "by-shape", "airbench94", "decoupled", "page"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_going_on_from_a_saved_state_is_bit_equal(component: Component, dtype: torch.dtype, tmp_path: Any) -> None:
    def start() -> tuple[Any, Weights]:
        weights = muon_weights() if component.name == "muon" else make()[1]
        for p in weights:
            p.data = p.data.to(dtype)
        return OPTIMIZERS.build(component, params=weights), weights

    optimizer, weights = start()
    run(optimizer, weights, FACTORS)
    torch.save({"weights": [p.data for p in weights], "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed, others = start()
    groups = [id(group) for group in resumed.param_groups]
    for p, value in zip(others, saved["weights"], strict=True):
        p.data.copy_(value)
    resumed.load_state_dict(saved["optimizer"])
    if component.name in ("by-role", "by-shape"):
        assert [id(group) for group in resumed.param_groups] == groups, "the engine holds on to them"
        assert [("factor" in g) for g in resumed.param_groups] == [("factor" in g) for g in optimizer.param_groups]
    before = copy.deepcopy([p.data for p in weights])
    run(optimizer, weights, FACTORS, start=STEPS)
    run(resumed, others, FACTORS, start=STEPS)
    for p, q, old in zip(weights, others, before, strict=True):
        assert torch.equal(p, q)
        assert p.isfinite().all()
        assert not torch.equal(p, old)


@pytest.mark.parametrize(
    ("component", "message"),
    [
        (muon_options(), "two or more dimensions"),
        (muon_options(dtype="fp16"), "dtype"),
        (muon_options(steps=0), "steps"),
        (part("decoupled-sgd", lr=0.0, momentum=0.85, weight_decay=0.0, bias_scale=1.0, unit="image"), "positive"),
        (part("decoupled-sgd", lr=1.0, momentum=0.85, weight_decay=0.0, bias_scale=1.0, unit="step"), "kilostep"),
        (
            part(
                "scaled-sgd", lr=1.0, momentum=0.9, weight_decay=0.0, bias_scale=1.0, loss_images=0, momentum_of="steps"
            ),
            "positive",
        ),
        (
            part("scaled-sgd", lr=1.0, momentum=0.9, weight_decay=0.0, bias_scale=1.0, loss_images=8, momentum_of="lr"),
            "gradients or steps",
        ),
        (part("by-role", **{**AIRBENCH94.options, "whitening_epochs": -1}), "negative"),
        (part("by-role", **{**AIRBENCH94.options, "filters": part("muo")}), "did you mean 'muon'"),
    ],
)
def test_bad_options_are_refused(component: Component, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OPTIMIZERS.build(component, params=make()[1])


def test_what_mixes_weights_is_not_for_several_seeds_in_one_tensor() -> None:
    assert not {"muon", "by-role", "decoupled-sgd", "scaled-sgd"} & STACKABLE


@pytest.mark.parametrize(
    "component",
    [
        part("adam", lr=0.01, betas=(0.7, 0.9), eps=1e-3),
        part("sgd", lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        part("decoupled-sgd", lr=2.0, momentum=0.85, weight_decay=0.015, bias_scale=64.0, unit="kilostep"),
        part(
            "scaled-sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, bias_scale=64.0, loss_images=None,
            momentum_of="steps",
        ),
        part(
            "scaled-sgd", lr=0.4, momentum=0.9, weight_decay=5e-4, bias_scale=1.0, loss_images=512,
            momentum_of="gradients",
        ),
        AIRBENCH94,
        BY_ROLE,
        BY_SHAPE,
    ],
    ids=repr,
)  # fmt: skip
def test_the_scale_of_the_loss_does_not_matter(component: Component) -> None:
    """Gradients of a scaled loss give the steps of the mean loss: float16 needs the scale, nothing else sees it."""
    results = []
    for scale in (1.0, 512.0):
        net, _ = make()
        weights = weights_of(net, BATCH, scale)
        optimizer = OPTIMIZERS.build(component, params=weights)
        for step in range(STEPS):
            for p, g in zip(weights, gradients(weights, step), strict=True):
                p.grad = g / BATCH * scale
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in weights]))
    assert torch.allclose(results[0], results[1], rtol=1e-4, atol=1e-6)


def test_adadelta_refuses_a_scaled_loss() -> None:
    with pytest.raises(InputError, match="use precision fp32 or bf16"):
        OPTIMIZERS.build(part("adadelta", lr=1.0, rho=0.9, eps=1e-6), params=weights_of(Net(), BATCH, 512.0))
