"""Several seeds as one network: the weights of all side by side, so that one operation serves every seed.

Images and features of the seeds lie side by side in the channel axis: (N, seeds · C, H, W), seed by seed. What treats
each value or each channel alone (activations, pooling, batch normalisation) runs unchanged; what mixes channels
becomes a grouped convolution or a batched matrix product.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap.engine.seedwise import convolve
from hotlap.errors import InputError

CHANNELWISE = (
    nn.ReLU, nn.GELU, nn.SiLU, nn.CELU, nn.ELU, nn.Identity,
    nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveMaxPool2d, nn.AdaptiveAvgPool2d,
)  # fmt: skip
"""Layers that never mix channels, so that they serve several seeds as they are."""


_FEW_WEIGHTS = 2**14
"""Most weights of a convolution taken as matrix products, each of which has a copy of them for every image."""


class StackedConv2d(nn.Module):
    """``seeds`` convolutions side by side; weight (seeds, out, in, kernel height, kernel width), bias (seeds, out)."""

    def __init__(self, single: nn.Conv2d, seeds: int) -> None:
        super().__init__()
        self.weight = _stacked(single.weight, seeds)
        self.bias = _stacked(single.bias, seeds) if single.bias is not None else None
        self._stride, self._padding, self._dilation = single.stride, single.padding, single.dilation
        self._groups = single.groups * seeds
        plain = (single.stride, single.dilation, single.groups) == ((1, 1), (1, 1), 1)
        plain = plain and single.weight.numel() <= _FEW_WEIGHTS
        padding = None if isinstance(single.padding, str) else (single.padding[0], single.padding[1])
        self._by_products = padding if plain else None

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, seeds · in, H, W) to (N, seeds · out, H', W')."""
        if images.is_cuda and self._by_products is not None:
            return convolve(images, self.weight, self.bias, self._by_products)
        bias = None if self.bias is None else self.bias.flatten()
        weight = self.weight.flatten(0, 1)
        return functional.conv2d(images, weight, bias, self._stride, self._padding, self._dilation, self._groups)


class StackedLinear(nn.Module):
    """``seeds`` linear layers side by side; weight (seeds, out, in), bias (seeds, out)."""

    def __init__(self, single: nn.Linear, seeds: int) -> None:
        super().__init__()
        self.weight = _stacked(single.weight, seeds)
        self.bias = _stacked(single.bias, seeds) if single.bias is not None else None

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, seeds · in) to (N, seeds · out)."""
        seeds, _, inputs = self.weight.shape
        each = features.view(-1, seeds, inputs).transpose(0, 1)
        weight = self.weight.transpose(1, 2)
        out = torch.bmm(each, weight) if self.bias is None else torch.baddbmm(self.bias[:, None], each, weight)
        return out.transpose(0, 1).reshape(len(features), -1)


def _stacked(weight: Tensor, seeds: int) -> nn.Parameter:
    return nn.Parameter(weight.detach().expand(seeds, *weight.shape).clone(), requires_grad=weight.requires_grad)


def stack(network: nn.Module, seeds: int) -> nn.Module:
    """Make one network of ``seeds`` copies of another.

    Args:
        network: from (N, C, H, W) to (N, classes); not modified.
        seeds: how many.

    Returns:
        A network from (N, seeds · C, H, W) to (N, seeds · classes) with the weights of ``network`` in every copy.

    Raises:
        InputError: a layer cannot serve several seeds at once; it is named.
    """
    return _stack(network, seeds, "")


def _stack(module: nn.Module, seeds: int, name: str) -> nn.Module:
    if isinstance(module, nn.Conv2d) and module.padding_mode == "zeros":
        return StackedConv2d(module, seeds)
    if isinstance(module, nn.Linear):
        return StackedLinear(module, seeds)
    if type(module) is nn.BatchNorm2d:
        return _stack_norm(module, seeds)
    if isinstance(module, CHANNELWISE) or (isinstance(module, nn.Flatten) and module.start_dim == 1):
        return copy.deepcopy(module)
    if isinstance(module, nn.Sequential):
        children = {key: _stack(child, seeds, f"{name}{key}.") for key, child in module.named_children()}
        made = nn.Sequential()
        for key, child in children.items():
            made.add_module(key, child)
        return made
    layer = f"{name.removesuffix('.')} ({type(module).__name__})" if name else type(module).__name__
    why = "draws noise that the seeds would share" if isinstance(module, nn.Dropout) else "is not made for it"
    raise InputError(
        f"several seeds cannot be trained in one program: layer {layer} {why}",
        "train them one after another, or with --jobs",
    )


def _stack_norm(single: nn.BatchNorm2d, seeds: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(
        seeds * single.num_features, single.eps, single.momentum, single.affine, single.track_running_stats
    )
    for wide, narrow in zip(made.parameters(), single.parameters(), strict=True):
        wide.requires_grad_(narrow.requires_grad)
    return made


@torch.no_grad()
def put(stacked: nn.Module, single: nn.Module, index: int, seeds: int) -> None:
    """Copy the weights and running statistics of ``single`` into copy ``index`` of ``stacked``, in place."""
    for wide, narrow in _pairs(stacked, single, index, seeds):
        wide.copy_(narrow)


@torch.no_grad()
def take(stacked: nn.Module, single: nn.Module, index: int, seeds: int) -> None:
    """Copy the weights and running statistics of copy ``index`` of ``stacked`` into ``single``, in place."""
    for wide, narrow in _pairs(stacked, single, index, seeds):
        narrow.copy_(wide)


def _pairs(stacked: nn.Module, single: nn.Module, index: int, seeds: int) -> list[tuple[Tensor, Tensor]]:
    """Every tensor of one copy, as a view into the stack, beside its like in the single network."""
    wide, narrow = stacked.state_dict(), single.state_dict()
    found = []
    for name, tensor in narrow.items():
        # A count of batches is one number for all copies, since they train in step.
        shared = wide[name].numel() == tensor.numel() and seeds > 1
        found.append((wide[name] if shared else wide[name].view(seeds, *tensor.shape)[index], tensor))
    return found
