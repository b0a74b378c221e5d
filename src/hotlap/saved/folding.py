"""Batch normalisation folded into the convolutions before it: the same function with fewer operations."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class _Layers(fx.Tracer):
    """Traces what modules do with each other; modules without others inside stay whole."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Say whether a module stays whole."""
        return not any(m.children())


def fold_norms(network: nn.Module) -> tuple[nn.Module, int, int]:
    """Fold batch normalisation into convolutions where that leaves the network's function as it is.

    That is where a convolution alone leads into the normalisation, directly or through a max-pool. Normalisation
    commutes with a maximum where it multiplies by positive numbers only: a norm behind a max-pool that has a scale of
    zero or below stays where it is, and so does all of a network whose forward pass depends on its input's values.
    What is left is ordinary batch normalisation, whatever its kind in training.

    Args:
        network: in evaluation mode; not modified.

    Returns:
        A copy on the CPU in float32, the number of norms folded, and of all norms.
    """
    network = copy.deepcopy(network).cpu().float().to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    norms = _make_ordinary(network)
    try:
        graph = _Layers().trace(network)
    except Exception:  # tracing runs the forward pass of any model, which may fail at it in any way
        return network, 0, norms
    traced = fx.GraphModule(network, graph)
    modules = dict(traced.named_modules())
    folded = 0
    for node in list(graph.nodes):
        if not (node.op == "call_module" and type(modules[node.target]) is nn.BatchNorm2d):
            continue
        norm = modules[node.target]
        before = _only_input(node)
        if before is not None and isinstance(modules[before.target], nn.MaxPool2d) and _is_rising(norm):
            before = _only_input(before)
        if before is None or not isinstance(conv := modules[before.target], nn.Conv2d):
            continue
        if _uses(graph, before.target) > 1 or _uses(graph, node.target) > 1:
            continue
        _put(traced, before.target, fuse_conv_bn_eval(conv, norm))
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
        folded += 1
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced, folded, norms


def _only_input(node: Any) -> Any:
    """Return the module call whose output goes into this one and nowhere else; None where there is none."""
    before = node.args[0] if node.args else None
    alone = isinstance(before, fx.Node) and before.op == "call_module" and len(before.users) == 1
    return before if alone else None


def _is_rising(norm: nn.BatchNorm2d) -> bool:
    return norm.weight is None or bool((norm.weight > 0).all())


def _uses(graph: fx.Graph, target: Any) -> int:
    return sum(node.op == "call_module" and node.target == target for node in graph.nodes)


def _put(network: nn.Module, name: str, module: nn.Module) -> None:
    above, _, last = name.rpartition(".")
    setattr(network.get_submodule(above), last, module)


def _make_ordinary(network: nn.Module) -> int:
    """Replace every kind of batch normalisation by the ordinary one, in place, and return how many there are."""
    norms = [(name, norm) for name, norm in network.named_modules() if isinstance(norm, nn.BatchNorm2d)]
    for name, norm in norms:
        if type(norm) is nn.BatchNorm2d or not name:
            continue
        plain = nn.BatchNorm2d(norm.num_features, eps=norm.eps)
        plain.load_state_dict(norm.state_dict())
        _put(network, name, plain.eval())
    return len(norms)
