from __future__ import annotations

import pytest
import torch
from networks import patches
from torch import Tensor
from torch.nn import functional

from hotlap import datasets
from hotlap.errors import InputError
from hotlap.models.whitening import patch_covariance, whitening, whitening_filters


@pytest.fixture(scope="module")
def images() -> Tensor:
    """The first images of the real CIFAR-10, normalised."""
    pixels = torch.tensor(datasets.load("cifar10").x_train[:2000])
    x = pixels.permute(0, 3, 1, 2) if pixels.shape[-1] == 3 else pixels
    x = x.float() / 255
    return (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)


@pytest.mark.parametrize("centred", [True, False])
@pytest.mark.parametrize("kernel", [2, 3])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_whitened_patches_are_white(
    images: Tensor, kernel: int, centred: bool, channels: int, memory_format: torch.memory_format
) -> None:
    images = images[:400, :channels].contiguous(memory_format=memory_format)
    filters = whitening_filters(images, kernel, eps=1e-12, parts=1, centred=centred)
    whitened = functional.conv2d(images.double(), filters).transpose(0, 1).flatten(1)
    covariance = torch.cov(whitened, correction=0) if centred else whitened @ whitened.T / whitened.shape[1]
    assert torch.allclose(covariance, torch.eye(len(filters), dtype=torch.float64), atol=1e-3)


def test_filters_come_in_the_order_of_what_they_explain(images: Tensor) -> None:
    filters = whitening_filters(images, 2, eps=0.0, parts=1, centred=True).flatten(1)
    lengths = filters.square().sum(1)
    assert torch.equal(lengths, lengths.sort().values), "the greatest eigenvalue has the shortest filter"
    covariance = patch_covariance(images, 2, centred=True)
    eigenvalues = torch.linalg.eigvalsh(covariance).flip(0)
    assert torch.allclose(1 / lengths, eigenvalues, rtol=1e-6)
    with_eps = whitening_filters(images, 2, eps=0.5, parts=1, centred=True).flatten(1)
    assert torch.allclose(with_eps.square().sum(1), 1 / (eigenvalues + 0.5))


def test_parts_are_averaged_without_cancelling_out(images: Tensor) -> None:
    whole = whitening_filters(images, 2, eps=1e-2, parts=1, centred=True).flatten(1)
    parts = whitening_filters(images, 2, eps=1e-2, parts=10, centred=True).flatten(1)
    for a, b in zip(whole, parts, strict=True):
        assert functional.cosine_similarity(a, b, 0).abs() > 0.95
        assert 0.7 < (b.norm() / a.norm()).item() < 1.05


def test_the_covariance_does_not_depend_on_how_images_are_taken_in(images: Tensor) -> None:
    odd = images[:1003, :, :7, :5]
    taken = functional.unfold(odd.double(), 2).transpose(0, 1).flatten(1)
    assert torch.allclose(patch_covariance(odd, 2, centred=True), torch.cov(taken, correction=0))


def test_fitting_sets_the_filters_in_place(images: Tensor) -> None:
    asked = []

    def first(count: int) -> Tensor:
        asked.append(count)
        return images[:count]

    layer = whitening(patches(images=300, bias="zero"), 3).to(memory_format=torch.channels_last)
    pointer = layer.weight.data_ptr()
    assert torch.equal(layer(images[:2])[:, 0], images[:2, 0, :-1, :-1]), "pixels are copied until it is fitted"
    layer.fit_to(first)
    assert asked == [300]
    assert layer.weight.data_ptr() == pointer
    assert torch.equal(layer.weight[:12], -layer.weight[12:])
    assert [(name, p.shape) for name, p in layer.named_parameters()] == [("bias", (24,))]
    assert not layer.bias.any()  # type: ignore[union-attr]
    assert layer(images[:2]).shape == (2, 24, 31, 31)
    layer.reset_parameters()
    assert torch.equal(layer.weight[:12].flatten(1), torch.eye(12))


def test_biases() -> None:
    torch.manual_seed(0)
    bias = whitening(patches(bias="default"), 3).bias
    assert bias is not None
    assert 0.2 < bias.abs().max() <= 12**-0.5
    assert list(whitening(patches(bias="none"), 3).parameters()) == []
    with pytest.raises(ValueError, match="bias of whitening"):
        whitening(patches(bias="some"), 3)
    with pytest.raises(ValueError, match="at least 1"):
        whitening(patches(parts=0), 3)
    with pytest.raises(InputError, match="patches"):
        whitening(patches().__class__("patch"), 3)
