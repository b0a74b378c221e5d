"""Batch normalisation over parts of a batch, and with a fixed scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from hotlap.errors import InputError
from hotlap.models.layers import Fused


class GhostBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that treats each of several parts of a batch as a batch of its own.

    Image i belongs to part i mod ``splits``. The running statistics are those of the parts, averaged; evaluation is
    that of ordinary batch normalisation, which this is altogether with one part. A batch that cannot be cut evenly is
    cut into as many parts as its size allows, at most ``splits``: 336 images into 16, 10 into 10, 17 into one.

    A view of the batch does it in contiguous memory; in channels_last memory the images are copied twice.

    Args:
        num_features: channels.
        splits: parts of a batch; 1 is ordinary batch normalisation.
        eps: added to the variance.
        momentum: share of the new batch in the running statistics (PyTorch's sense).
        learned_scale: train the scales; otherwise they stay 1 and are no parameter.

    Attributes:
        fused: whose kernels are to compute it together with pooling and activation, where they can; see
            ``layers.Fused``.

    Raises:
        ValueError: ``splits`` is below 1.

    Source: Page 2019, as in RECIPES.md section 2.
    """

    fused: Fused = ""

    def __init__(self, num_features: int, *, splits: int, eps: float, momentum: float, learned_scale: bool) -> None:
        if splits < 1:
            raise ValueError(f"norm_splits must be at least 1, not {splits}")
        super().__init__(num_features, eps=eps, momentum=momentum)
        self.splits = splits
        if not learned_scale:
            del self.weight
            self.register_buffer("weight", torch.ones(num_features))

    def forward(self, images: Tensor) -> Tensor:
        """Normalise (N, C, H, W); in training, moves the running statistics.

        Raises:
            InputError: one value per channel in training, which has no spread.
        """
        count = len(images)
        if self.training and images.numel() <= self.num_features:
            raise InputError(
                "a batch of one image leaves batch normalisation one value per channel",
                "--set feed.drop_last=true, or another --set batch_size=…",
            )
        splits = parts_of(self, count) if self.training else 1
        if splits == 1:
            return super().forward(images)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        mean, var = self.running_mean.repeat(splits), self.running_var.repeat(splits)
        wide = functional.batch_norm(
            images.reshape(count // splits, splits * self.num_features, *images.shape[2:]),
            mean, var, self.weight.repeat(splits), self.bias.repeat(splits), True, self.momentum, self.eps,
        )  # fmt: skip
        # Running averages are linear, so the average of the parts' statistics can be kept in place of them.
        self.running_mean.copy_(mean.view(splits, -1).mean(0))
        self.running_var.copy_(var.view(splits, -1).mean(0))
        result = wide.reshape(images.shape)
        last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
        return result.contiguous(memory_format=torch.channels_last) if last else result


def parts_of(norm: nn.Module, count: int) -> int:
    """Return into how many parts a normalisation cuts a batch of ``count`` images in training."""
    # A plain loop: torch.compile follows it in every version.
    parts = min(getattr(norm, "splits", 1), count)
    while parts > 1 and count % parts:
        parts -= 1
    return max(1, parts)


def is_ordinary(norm: nn.Module, images: Tensor, *, pool: bool) -> bool:
    """Tell whether kernels can take what ``norm`` does in training for the usual: by the batch, scaled in float32.

    Args:
        norm: the layer.
        images: (N, C, H, W), what it or the pooling before it would be given.
        pool: whether 2×2 pixels become one first.
    """
    side = 2 if pool else 1
    return (
        isinstance(norm, nn.BatchNorm2d)
        and norm.weight is not None
        and norm.running_mean is not None
        and norm.momentum is not None
        and norm.weight.dtype == torch.float32
        and norm.weight.device == images.device
        and images.dim() == 4
        and images.shape[1] == norm.num_features
        and len(images) // parts_of(norm, len(images)) * (images.shape[2] // side) * (images.shape[3] // side) > 1
    )
