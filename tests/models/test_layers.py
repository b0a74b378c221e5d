from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hotlap.errors import InputError
from hotlap.models import MODELS
from hotlap.models.layers import (
    Conv3x3,
    DiracConv3x3,
    GlobalMax,
    Head,
    PartialDiracConv3x3,
    RestandardisedConv3x3,
    activation,
    convolve_and_activate,
)
from hotlap.models.norms import GhostBatchNorm2d
from hotlap.native.convolutions import WinogradConvolutions
from hotlap.native.library import missing
from hotlap.recipe import part


def test_activations_by_name() -> None:
    x = torch.linspace(-4, 4, 101)
    gelu = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
    celu = torch.where(x > 0, x, 0.3 * (torch.exp(x / 0.3) - 1))
    assert torch.allclose(activation(part("gelu"))(x), gelu, atol=1e-6)
    assert torch.allclose(activation(part("celu", alpha=0.3))(x), celu, atol=1e-6)
    assert torch.allclose(activation(part("silu"))(x), x * torch.sigmoid(x), atol=1e-6)
    assert torch.equal(activation(part("relu"))(x), x.clamp_min(0))
    with pytest.raises(InputError, match="did you mean 'gelu'"):
        activation(part("gelo"))
    with pytest.raises(TypeError, match="alpha"):
        activation(part("celu"))


def test_partial_dirac_passes_its_channels_on() -> None:
    conv, images = PartialDiracConv3x3(6, 9), torch.randn(2, 6, 5, 7)
    assert torch.allclose(conv(images)[:, :6], images, atol=1e-6)
    # The other filters are PyTorch's default, uniform within ± 1 / sqrt(fan in).
    assert 0 < conv.weight[6:].abs().max() <= 1 / math.sqrt(54)


def test_dirac_is_the_identity() -> None:
    images = torch.randn(2, 6, 5, 7)
    assert torch.allclose(DiracConv3x3(6, 6)(images), images)


def test_restandardised_has_the_mean_and_spread_of_the_default() -> None:
    torch.manual_seed(3)
    default = Conv3x3(24, 64).weight
    torch.manual_seed(3)
    weight = RestandardisedConv3x3(24, 64).weight
    assert weight.mean().item() == pytest.approx(default.mean().item(), abs=1e-7)
    assert weight.std().item() == pytest.approx(default.std().item(), rel=1e-5)
    centre = weight[range(24), range(24), 1, 1]
    assert centre.min() > weight.mean() + 5 * weight.std()


@pytest.mark.parametrize("start", ["default", "unit-std"])
def test_head(start: str) -> None:
    torch.manual_seed(0)
    plain = nn.Linear(32, 10, bias=False).weight
    torch.manual_seed(0)
    head = Head(32, 10, scale=1 / 9, start=start)  # type: ignore[arg-type]
    expected = plain / plain.std() if start == "unit-std" else plain
    features = torch.randn(4, 32)
    assert torch.allclose(head(features), features @ expected.T / 9, atol=1e-6)


@pytest.mark.parametrize("how", ["max-pool", "amax"])
def test_global_max(how: str) -> None:
    images = torch.randn(3, 5, 4, 7).contiguous(memory_format=torch.channels_last)
    assert torch.equal(GlobalMax(how)(images), images.flatten(2).max(2).values)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="pooling"):
        GlobalMax("mean")  # type: ignore[arg-type]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("splits", [1, 4])
def test_ghost_norm_of_bfloat16_is_that_of_the_same_numbers(memory_format: torch.memory_format, splits: int) -> None:
    torch.manual_seed(0)
    images = torch.randn(12, 5, 6, 3).bfloat16().contiguous(memory_format=memory_format)
    results = []
    for batch in (images, images.float()):
        norm = GhostBatchNorm2d(5, splits=splits, eps=1e-5, momentum=0.3, learned_scale=False)
        results.append((norm(batch), norm.running_mean, norm.running_var))
    (narrow, *statistics), (wide, *expected) = results
    assert narrow.dtype == torch.bfloat16 and narrow.is_contiguous(memory_format=memory_format)
    assert torch.allclose(narrow.float(), wide, rtol=0.01, atol=0.01)
    for found, theirs in zip(statistics, expected, strict=True):
        assert found.dtype == torch.float32 and torch.allclose(found, theirs, rtol=1e-3, atol=1e-4)


def test_a_batch_that_leaves_one_value_per_channel_is_refused() -> None:
    norm = GhostBatchNorm2d(5, splits=1, eps=1e-5, momentum=0.3, learned_scale=True)
    with pytest.raises(InputError, match=r"one value per channel → --set feed\.drop_last=true"):
        norm(torch.randn(1, 5, 1, 1))
    assert norm.eval()(torch.randn(1, 5, 1, 1)).shape == (1, 5, 1, 1)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("learned_scale", [True, False])
def test_ghost_norm_is_batch_norm_on_each_part(memory_format: torch.memory_format, learned_scale: bool) -> None:
    torch.manual_seed(0)
    norm = GhostBatchNorm2d(5, splits=4, eps=1e-5, momentum=0.3, learned_scale=learned_scale)
    with torch.no_grad():
        norm.bias.uniform_()
        if learned_scale:
            norm.weight.uniform_(0.5, 2)
    plain = [nn.BatchNorm2d(5, eps=1e-5, momentum=0.3) for _ in range(4)]
    for one in plain:
        one.load_state_dict({k: v.clone() for k, v in norm.state_dict().items()})
    for _ in range(3):
        images = (torch.randn(12, 5, 6, 3) * 2 + 1).contiguous(memory_format=memory_format)
        ours = images.clone(memory_format=torch.preserve_format).requires_grad_()
        theirs = images.clone().requires_grad_()
        result = norm(ours)
        expected = torch.empty_like(images)
        for k in range(4):
            expected[k::4] = plain[k](theirs[k::4])
        assert torch.allclose(result, expected, atol=1e-5)
        assert result.is_contiguous(memory_format=memory_format)
        result.square().mul(torch.arange(12).view(12, 1, 1, 1)).sum().backward()
        expected.square().mul(torch.arange(12).view(12, 1, 1, 1)).sum().backward()
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-3)  # type: ignore[arg-type]
    for name in ("running_mean", "running_var"):
        average = torch.stack([getattr(one, name) for one in plain]).mean(0)
        assert torch.allclose(getattr(norm, name), average, atol=1e-6)
    assert norm.bias.grad is not None
    assert torch.allclose(norm.bias.grad, sum(one.bias.grad for one in plain), rtol=1e-4)  # type: ignore[arg-type, misc]
    assert [name for name, _ in norm.named_parameters()] == (["weight", "bias"] if learned_scale else ["bias"])
    images = torch.randn(7, 5, 2, 2)
    norm.eval()
    average_norm = nn.BatchNorm2d(5).eval()
    average_norm.load_state_dict(norm.state_dict())
    assert torch.equal(norm(images), average_norm(images))


@given(count=st.integers(2, 40), splits=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_batch_that_cannot_be_cut_evenly_is_cut_as_often_as_its_size_allows(
    count: int, splits: int, seed: int
) -> None:
    images = torch.randn(count, 2, 3, 3, generator=torch.Generator().manual_seed(seed))
    norm = GhostBatchNorm2d(2, splits=splits, eps=1e-5, momentum=0.1, learned_scale=True)
    result = norm(images)
    parts = max(n for n in range(1, splits + 1) if count % n == 0)
    for k in range(parts):
        assert result[k::parts].mean((0, 2, 3)).abs().max() < 1e-4


def test_resetting_a_norm_with_a_fixed_scale() -> None:
    norm = GhostBatchNorm2d(3, splits=2, eps=1e-5, momentum=0.1, learned_scale=False)
    norm(torch.randn(4, 3, 2, 2))
    norm.reset_parameters()
    fresh = GhostBatchNorm2d(3, splits=2, eps=1e-5, momentum=0.1, learned_scale=False)
    assert all(torch.equal(a, b) for a, b in zip(norm.state_dict().values(), fresh.state_dict().values(), strict=True))
    with pytest.raises(ValueError, match="norm_splits"):
        GhostBatchNorm2d(3, splits=0, eps=1e-5, momentum=0.1, learned_scale=False)


@pytest.mark.skipif(missing() is not None, reason="the package was installed without a C++ compiler")
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(2, ceil_mode=True), nn.MaxPool2d(2, stride=1), None])
def test_layers_done_at_once_are_those_one_after_another(pool: nn.Module | None) -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 16, 7, 7).to(memory_format=torch.channels_last)
    conv = nn.Conv2d(16, 16, 3, padding=1, bias=False).to(memory_format=torch.channels_last)
    found = []
    for by in ("", "native"):
        norm = GhostBatchNorm2d(16, splits=1, eps=1e-5, momentum=0.3, learned_scale=True)
        norm.fused = by  # type: ignore[assignment]
        found.append(convolve_and_activate(conv, norm, nn.SiLU(), images, pool=pool))
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(missing() is not None, reason="the package was installed without a C++ compiler")
def test_channels_of_zeros_beyond_the_filters_change_nothing() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 16, 8, 8).to(memory_format=torch.channels_last)
    wide = nn.functional.pad(images, (0, 0, 0, 0, 0, 8)).contiguous(memory_format=torch.channels_last)
    conv, pool = Conv3x3(16, 16), nn.MaxPool2d(2)
    norm = GhostBatchNorm2d(16, splits=1, eps=1e-5, momentum=0.3, learned_scale=True)
    norm.fused = "native"
    with WinogradConvolutions():
        found, expected = (convolve_and_activate(conv, norm, nn.SiLU(), x, pool=pool) for x in (wide, images))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.skipif(missing() is not None, reason="the package was installed without a C++ compiler")
@pytest.mark.parametrize("order", ["norm-act-pool", "norm-pool-act", "pool-norm-act"])
def test_the_kernels_do_the_layers_of_a_residual_network_in_any_order(order: str) -> None:
    options = {"whitening": None, "widths": (8, 12, 16, 16), "activation": part("celu", alpha=0.3), "norm_splits": 4}
    options |= {"norm_scale": True, "norm_momentum": 0.1, "norm_eps": 1e-5, "logit_scale": 0.125, "order": order}
    images = torch.randn(8, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    images = images.to(memory_format=torch.channels_last)
    found = []
    for by in ("", "native"):
        torch.manual_seed(0)
        network = MODELS.build(part("resnet9", **options), shape=(3, 20, 20), classes=10)
        network = network.to(memory_format=torch.channels_last)
        norms = [module for module in network.modules() if isinstance(module, GhostBatchNorm2d)]
        for norm in norms:
            norm.fused = by  # type: ignore[assignment]
        logits = network(images)
        logits.square().sum().backward()
        found.append([logits, *(p.grad for p in network.parameters()), *(norm.running_var for norm in norms)])
    for ours, theirs in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
