"""The parameters of a network as optimizers get them: a list that also knows what each is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias

from torch import nn

Role: TypeAlias = Literal["filters", "norm", "whitening", "head"]
ROLES: tuple[Role, ...] = ("filters", "norm", "whitening", "head")


class Weights(list[nn.Parameter]):
    """All trainable parameters of a network, in its own order.

    Attributes:
        by_role: the parameters of each of ``ROLES``: ``norm`` are those of normalisation layers, ``whitening`` the bias
            of a fixed whitening convolution, ``head`` those of the last linear layer, ``filters`` all others.
        batch_size: images of one step, which hyper-parameters of summed losses are divided or multiplied by.
        loss_scale: factor of the mean loss whose gradients the optimizer gets; it must take the same steps for any.
    """

    def __init__(
        self,
        by_role: dict[Role, list[nn.Parameter]],
        order: Iterable[nn.Parameter],
        batch_size: int,
        loss_scale: float = 1.0,
    ) -> None:
        super().__init__(order)
        self.by_role = by_role
        self.batch_size = batch_size
        self.loss_scale = loss_scale

    def only(self, chosen: Iterable[nn.Parameter]) -> Weights:
        """Return some of these weights, in the network's order, whatever the order in which they are given."""
        kept = {id(p) for p in chosen}
        by_role = {role: [p for p in some if id(p) in kept] for role, some in self.by_role.items()}
        return Weights(by_role, (p for p in self if id(p) in kept), self.batch_size, self.loss_scale)


def weights_of(network: nn.Module, batch_size: int, loss_scale: float = 1.0) -> Weights:
    """Gather the trainable parameters of a network; see ``Weights``.

    A module says what its own parameters are for by an attribute ``role``; those of normalisation layers are ``norm``
    and all others ``filters`` without one.
    """
    by_role: dict[Role, list[nn.Parameter]] = {role: [] for role in ROLES}
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
    for module in network.modules():
        role: Role = getattr(module, "role", "norm" if isinstance(module, norms) else "filters")
        by_role[role] += [p for p in module.parameters(recurse=False) if p.requires_grad]
    return Weights(by_role, (p for p in network.parameters() if p.requires_grad), batch_size, loss_scale)
