"""A fixed convolution that whitens the patches of the training images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap.errors import unknown_name
from hotlap.models.layers import Fused
from hotlap.recipe import Component

WhiteningBias: TypeAlias = Literal["none", "zero", "default"]

_AT_ONCE = 1000
"""Images whose patches are unfolded at once: below 100 MB for 2×2 patches of 32×32 pixels in three channels."""

_SUITABLE = 32
"""Convolutions for tensor cores take channels by this number; with 24, they take more than twice as long as with 32."""


def patch_covariance(images: Tensor, kernel: int, *, centred: bool) -> Tensor:
    """Return the covariance of all square patches.

    Args:
        images: (N, C, H, W).
        kernel: side of a patch, in pixels.
        centred: subtract the mean patch; otherwise these are second moments.

    Returns:
        (C·kernel², C·kernel²) float64 on the images' device, in the order of a convolution's weights.
    """
    size = images.shape[1] * kernel**2
    moments = torch.zeros((size, size), dtype=torch.float64, device=images.device)
    total = torch.zeros(size, dtype=torch.float64, device=images.device)
    for some in images.split(_AT_ONCE):
        patches = some.unfold(2, kernel, 1).unfold(3, kernel, 1)  # (n, C, H', W', kernel, kernel)
        patches = patches.permute(1, 4, 5, 0, 2, 3).reshape(size, -1).double()
        moments += patches @ patches.T
        total += patches.sum(1)
    count = len(images) * (images.shape[2] - kernel + 1) * (images.shape[3] - kernel + 1)
    mean = total / count
    return moments / count - (torch.outer(mean, mean) if centred else 0)


def whitening_filters(images: Tensor, kernel: int, *, eps: float, parts: int, centred: bool) -> Tensor:
    """Return the filters that make the patches of images uncorrelated and of variance 1.

    They are the eigenvectors of the patches' covariance, greatest eigenvalue first, each divided by
    sqrt(eigenvalue + eps). Eigenvectors have no sign of their own: that of PyTorch's solver is taken, which does not
    matter to a network whose next weights are drawn symmetrically, or that sees the negated filters too.

    With several parts, eigenvalues and eigenvectors of the parts are averaged. Each eigenvector is first turned to the
    side of its like in the first part, since two of opposite sign would cancel out. Where two eigenvalues are nearly
    equal their eigenvectors mix differently in each part, or change places, and the average whitens less well.

    Args:
        images: (N, C, H, W), normalised; not modified.
        kernel: side of a patch, in pixels.
        eps: added to the eigenvalues; keeps directions without variance from being blown up.
        parts: number of parts of the images, of equal size but for the last.
        centred: subtract the mean patch from the patches.

    Returns:
        (C·kernel², C, kernel, kernel) float64 on the CPU, where small matrices are decomposed faster.
    """
    spectra = [torch.linalg.eigh(patch_covariance(part, kernel, centred=centred).cpu()) for part in images.chunk(parts)]
    first = spectra[0].eigenvectors
    aligned = [vectors * torch.where((vectors * first).sum(0) < 0, -1.0, 1.0) for _, vectors in spectra]
    values = torch.stack([values for values, _ in spectra]).mean(0).clamp_min(0)
    filters = torch.stack(aligned).mean(0) / (values + eps).sqrt()
    return filters.T.flip(0).reshape(-1, images.shape[1], kernel, kernel)


class PatchWhitening(nn.Module):
    """A convolution with fixed filters that whiten the patches of the first training images; see ``whitening_filters``.

    Until it is fitted its filters copy single pixels, as if patches were white already.

    Args:
        channels: of the images.
        kernel: side of the filters, in pixels.
        padding: zeros around the images, in pixels.
        eps: added to the eigenvalues.
        images: number of first training images that it is fitted to; fewer where there are fewer.
        parts: number of parts of these images whose spectra are averaged.
        centred: subtract the mean patch from the patches.
        negated: also give the negative of every filter, after all filters.
        bias: ``none``; learned from ``zero``; or learned from PyTorch's ``default``, drawn uniformly.

    Attributes:
        shrinks: pixels by which its output is smaller than its input, along each side.
        weight: (channels out, channels, kernel, kernel), a buffer.
        bias: (channels out,), or None.
        fused: whose kernels are to compute it together with the activation, where they can and nothing is trained; see
            ``layers.Fused``.

    Source: Page 2019, hlb-CIFAR10 and airbench, as in RECIPES.md sections 2 to 4.
    """

    role = "whitening"
    weight: Tensor
    fused: Fused = ""

    def __init__(
        self,
        channels: int,
        *,
        kernel: int,
        padding: int,
        eps: float,
        images: int,
        parts: int,
        centred: bool,
        negated: bool,
        bias: WhiteningBias,
    ) -> None:
        super().__init__()
        if bias not in ("none", "zero", "default"):
            raise ValueError(f"the bias of whitening is none, zero or default, not {bias!r}")
        if min(kernel, images, parts) < 1 or eps < 0:
            raise ValueError("whitening takes kernel, images and parts of at least 1 and a positive eps")
        self.padding, self._eps, self._images, self._parts = padding, eps, images, parts
        self._centred, self._negated, self._start = centred, negated, bias
        self.channels_out = channels * kernel**2 * (2 if negated else 1)
        self.shrinks = kernel - 1 - 2 * padding
        self.register_buffer("weight", torch.empty(self.channels_out, channels, kernel, kernel))
        self.bias = None if bias == "none" else nn.Parameter(torch.empty(self.channels_out))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Make the filters copy single pixels and start the bias anew; ``default`` uses the global generator."""
        size = self.weight[0].numel()
        self._set(torch.eye(size, device=self.weight.device).view(size, *self.weight.shape[1:]))
        if self.bias is not None:
            bound = 1 / math.sqrt(size) if self._start == "default" else 0.0
            nn.init.uniform_(self.bias, -bound, bound)

    @torch.no_grad()
    def fit_to(self, first_images: Callable[[int], Tensor]) -> None:
        """Set the filters, in place.

        Args:
            first_images: returns that many training images, normalised: (N, C, H, W).
        """
        self._set(
            whitening_filters(
                first_images(self._images),
                self.weight.shape[2],
                eps=self._eps,
                parts=self._parts,
                centred=self._centred,
            )
        )

    def is_trained(self) -> bool:
        """Tell whether there is a bias that asks for its gradient."""
        return self.bias is not None and self.bias.requires_grad

    def _set(self, filters: Tensor) -> None:
        self.weight.copy_(torch.cat((filters, -filters)) if self._negated else filters)

    def forward(self, images: Tensor) -> Tensor:
        """Map (N, channels, H, W) to (N, channels out, H', W')."""
        return functional.conv2d(images, self.weight, self.bias, padding=self.padding)


def whiten_and_activate(whiten: nn.Module, act: nn.Module, images: Tensor) -> Tensor:
    """Map (N, channels, H, W) to (N, channels out, H', W'), activated.

    The kernels of ``hotlap.fused`` do it where ``whiten`` allows it by its attribute ``fused`` and they can; in
    training they add channels of zeros for the convolution that follows.
    """
    if isinstance(whiten, PatchWhitening) and whiten.fused == "triton" and not whiten.is_trained():
        from hotlap.fused import patches

        wide = -(-whiten.channels_out // _SUITABLE) * _SUITABLE if whiten.training else whiten.channels_out
        if patches.handles(images, whiten.weight, whiten.padding, act, wide):
            return patches.convolve(images, whiten.weight, whiten.bias, act, wide)
    result: Tensor = act(whiten(images))
    return result


def whitening(component: Component, channels: int) -> PatchWhitening:
    """Build the layer from a recipe's ``patches(kernel, padding, eps, images, parts, centred, negated, bias)``.

    Raises:
        InputError: another name.
        TypeError: an unknown or missing option.
        ValueError: an option out of range.
    """
    if component.name != "patches":
        raise unknown_name("whitening", component.name, ("patches",))
    return PatchWhitening(channels, **component.options)
