"""The recipes that the compiled kernels can run: stacks of convolutions and linear layers, read off PyTorch's modules.

Nothing is written down twice. Networks, optimizers, augmentations and averages are built as the PyTorch engine builds
them, and what they turn out to be is translated; whatever has no translation is outside the family, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hotlap.models.layers import CenterCrop
from hotlap.native import library as lib
from hotlap.optim.muon import Muon
from hotlap.techniques.selective import Selective
from hotlap.techniques.views import PLAIN, Term, Views, WeightedViews

LARGEST_KERNEL = 7
LARGEST_POOL = 5
_KNOWN = (CenterCrop, nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.ReLU, nn.Flatten, nn.Linear)


class OutsideFamilyError(Exception):
    """The compiled kernels cannot do what a recipe asks for; the message says what."""


@dataclass(frozen=True)
class Stack:
    """A network as the kernels take it.

    Attributes:
        crop: side of the central window that is seen; 0 for the whole image.
        layers: array of ``library.Layer``.
        parameters: weight and bias of each layer; None for a missing bias.
    """

    crop: int
    layers: NDArray[Any]
    parameters: tuple[Tensor | None, ...]

    def gathered(self) -> NDArray[np.float32]:
        """Return all parameters, one after another; zeros for a missing bias."""
        pieces = []
        for layer, parameter in zip(np.repeat(self.layers, 2), self.parameters, strict=True):
            values = torch.zeros(int(layer["out"])) if parameter is None else parameter.detach()
            pieces.append(values.reshape(-1).contiguous().numpy())
        return np.concatenate(pieces)

    def put_back(self, values: NDArray[np.float32]) -> None:
        """Set the network's parameters to what ``gathered`` returned, or to what training made of it."""
        at = 0
        for layer, parameter in zip(np.repeat(self.layers, 2), self.parameters, strict=True):
            count = int(layer["out"]) if parameter is None else parameter.numel()
            if parameter is not None:
                with torch.no_grad():
                    parameter.copy_(torch.from_numpy(values[at : at + count].reshape(parameter.shape)))
            at += count


def stack_of(network: nn.Module) -> Stack:
    """Read a network off its modules.

    Raises:
        OutsideFamilyError: it is not a plain stack of what the kernels know.
    """
    if type(network) is not nn.Sequential:
        raise OutsideFamilyError(f"its network is a {type(network).__name__}, not a plain stack of layers")
    crop = 0
    layers: list[dict[str, int]] = []
    parameters: list[Tensor | None] = []
    # What may still be added to the last layer: its activation, and a convolution's pooling.
    for i, module in enumerate(network):
        last = layers[-1] if layers else None
        if type(module) not in _KNOWN:
            raise OutsideFamilyError(f"it has a layer {type(module).__name__}")
        if isinstance(module, CenterCrop):
            if i > 0:
                raise OutsideFamilyError("it crops behind its first layer")
            crop = module.side
        elif isinstance(module, nn.Conv2d):
            layers.append(_convolution(module, last))
            parameters += [module.weight, module.bias]
        elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
            _add_pooling(module, last)
        elif isinstance(module, nn.ReLU):
            if last is None or last["relu"]:
                raise OutsideFamilyError("it has an activation that follows no layer")
            last["relu"] = 1
        elif isinstance(module, nn.Linear):
            if last is None:
                raise OutsideFamilyError("it begins with a linear layer")
            layers.append(_layer(lib.LINEAR, module.out_features))
            parameters += [module.weight, module.bias]
    if not layers or layers[-1]["kind"] != lib.LINEAR:
        raise OutsideFamilyError("it does not end in a linear layer")
    if len(layers) > lib.LAYERS:
        raise OutsideFamilyError(f"it has more than {lib.LAYERS} layers")
    described = np.array([tuple(layer.values()) for layer in layers], lib.Layer)
    return Stack(crop, described, tuple(parameters))


def _layer(kind: int, out: int, *, kernel: int = 1, pad: int = 0) -> dict[str, int]:
    fixed = {"kind": kind, "out": out, "kernel": kernel, "pad": pad, "pool": 1, "pool_kind": lib.MAX}
    return {**fixed, "relu": 0, "relu_first": 0}


def _convolution(module: nn.Conv2d, last: Mapping[str, int] | None) -> dict[str, int]:
    kernel, pad = module.kernel_size, module.padding
    if last is not None and last["kind"] == lib.LINEAR:
        raise OutsideFamilyError("it has a convolution behind a linear layer")
    if kernel[0] != kernel[1] or kernel[0] > LARGEST_KERNEL:
        raise OutsideFamilyError(f"it has a convolution with a kernel of {kernel[0]}×{kernel[1]}")
    if module.stride != (1, 1) or module.dilation != (1, 1) or module.groups != 1:
        raise OutsideFamilyError("it has a convolution with stride, dilation or groups")
    if isinstance(pad, str) or pad[0] != pad[1] or pad[0] >= kernel[0] or module.padding_mode != "zeros":
        raise OutsideFamilyError(f"it has a convolution with padding {pad!r}")
    return _layer(lib.CONV, module.out_channels, kernel=kernel[0], pad=pad[0])


def _add_pooling(module: nn.MaxPool2d | nn.AvgPool2d, last: dict[str, int] | None) -> None:
    side = module.kernel_size
    if last is None or last["kind"] != lib.CONV or last["pool"] > 1:
        raise OutsideFamilyError("it has a pooling that follows no convolution")
    plain = module.padding == 0 and not module.ceil_mode and module.stride in (side, (side, side))
    if not isinstance(side, int) or not plain or not 1 <= side <= LARGEST_POOL:
        raise OutsideFamilyError(f"it has a pooling other than by whole windows of up to {LARGEST_POOL} pixels")
    last["pool"], last["pool_kind"] = side, lib.MAX if isinstance(module, nn.MaxPool2d) else lib.AVERAGE
    last["relu_first"] = last["relu"]


def rules_of(optimizers: Iterable[Any], parameters: Sequence[Tensor | None]) -> tuple[NDArray[Any], list[int]]:
    """Translate optimizers to the kernels' rules.

    Args:
        optimizers: torch optimizers, whose groups are counted through.
        parameters: in the kernels' order; None for what is not there.

    Returns:
        Array of ``library.Rule`` for each parameter, and the number of the group that each belongs to, -1 for none.

    Raises:
        OutsideFamilyError: an optimizer that the kernels do not have.
    """
    place = {id(p): i for i, p in enumerate(parameters) if p is not None}
    rules = np.zeros(len(parameters), lib.Rule)
    groups = [-1] * len(parameters)
    number = 0
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rule = _rule(type(optimizer), group)
            for parameter in group["params"]:
                at = place[id(parameter)]
                rules[at], groups[at] = rule, number
            number += 1
    return rules, groups


def _rule(kind: type[Any], group: Mapping[str, Any]) -> NDArray[Any]:
    rule = np.zeros((), lib.Rule)
    if kind is torch.optim.Adam:
        if group["weight_decay"] or group["amsgrad"] or group["maximize"]:
            raise OutsideFamilyError("its Adam has options that the kernels lack")
        rule["kind"] = lib.ADAM
        rule["beta1"], rule["beta2"] = group["betas"]
        rule["eps"] = group["eps"]
    elif kind is torch.optim.SGD:
        if group["dampening"] or group["maximize"]:
            raise OutsideFamilyError("its SGD has options that the kernels lack")
        rule["kind"] = lib.SGD
        rule["momentum"], rule["nesterov"] = group["momentum"], group["nesterov"]
        rule["weight_decay"] = group["weight_decay"]
    elif kind is Muon:
        if group["dtype"] == "bf16":
            raise OutsideFamilyError("its Muon computes in bfloat16")
        rule["kind"] = lib.MUON
        rule["momentum"], rule["nesterov"] = group["momentum"], group["nesterov"]
        coefficients = group["coefficients"]
        if len(coefficients) > lib.COEFFICIENTS and len(set(coefficients[lib.COEFFICIENTS - 1 :])) > 1:
            raise OutsideFamilyError(f"its Muon has more than {lib.COEFFICIENTS} different steps")
        rule["steps"], rule["renormalise_every"] = len(coefficients), group["renormalise_every"]
        given = coefficients[: lib.COEFFICIENTS]
        rule["coefficients"] = [*given, *[given[-1]] * (lib.COEFFICIENTS - len(given))]
        rule["eps"] = group["eps"]
    else:
        raise OutsideFamilyError(f"its optimizer is {kind.__name__}")
    return rule


@dataclass(frozen=True)
class TestViews:
    """Test-time augmentation as the kernels take it.

    Attributes:
        all: views of every image, an array of ``library.View``.
        more: views that are added for the images with the smallest margins, or None.
        share: of the images that get them.
        weight: what the logits of ``all`` are multiplied by where ``more`` are added.
    """

    __test__ = False

    all: NDArray[Any]
    more: NDArray[Any] | None = None
    share: float = 0.0
    weight: float = 1.0


def views_for(views: Views | None) -> TestViews:
    """Translate a test-time augmentation; None stands for none.

    Raises:
        OutsideFamilyError: one that the kernels do not have.
    """
    if views is None:
        return TestViews(_as_views(PLAIN))
    if isinstance(views, WeightedViews):
        return TestViews(_as_views(views.terms()))
    if isinstance(views, Selective) and isinstance(views.of, WeightedViews):
        terms = views.of.terms()
        # The plain image has been seen already.
        plain = sum(term.weight for term in terms if (term.dy, term.dx, term.mirrored) == (0, 0, False))
        others = [term for term in terms if (term.dy, term.dx, term.mirrored) != (0, 0, False)]
        return TestViews(_as_views(PLAIN), _as_views(others), views.share, plain)
    raise OutsideFamilyError(f"its test-time augmentation is {type(views).__name__}")


def _as_views(terms: Sequence[Term]) -> NDArray[Any]:
    return np.array([(t.dy, t.dx, t.mirrored, 0, t.weight) for t in terms], lib.View)
