"""Checkpoints: the whole state of an interrupted run in one file, so that it goes on as if nothing had happened.

The file is in the safetensors format, tensors beside a JSON tree that says where each belongs; nothing in it is ever
executed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from hotlap._files import replacing
from hotlap.errors import InputError

_TENSOR, _LAST, _TUPLE, _ITEMS = "tensor", "channels-last tensor", "tuple", "items"
_FORMAT = "1"

EVERY_S = 10.0
"""Seconds of training after which an epoch ends with a checkpoint; shorter runs are sooner repeated than resumed."""

_SHARE = 0.02  # of the time between two savings that one may take: large networks on slow disks are saved more rarely


class Stateful(Protocol):
    """A part of a run that can be put away and brought back."""

    def state_dict(self) -> dict[str, Any]:
        """Return numbers, texts, tensors, and lists and dictionaries of them."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore what ``state_dict`` returned."""
        ...


class Checkpoint:
    """The file that one run is kept in while it is trained.

    Args:
        path: where.
        identity: what the run is: a file with another identity is refused.
        resume: go on from the file where there is one, instead of starting anew.
        every_s: seconds between two savings, at least.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, str], *, resume: bool = False, every_s: float = EVERY_S
    ) -> None:
        self.path = path
        self._identity = {"format": _FORMAT, **identity}
        self._resume = resume
        self._every_s = every_s
        self._last = time.monotonic()
        self._took = 0.0

    def restore(self, parts: Mapping[str, Stateful]) -> bool:
        """Bring every part back to the state in the file; return whether there was one to go on from.

        Raises:
            InputError: the file is damaged, or of another run; see ``identity``.
        """
        if not self._resume or not self.path.exists():
            return False
        state = self._read()
        try:
            for name, one in parts.items():
                one.load_state_dict(state[name])
        except (KeyError, IndexError, TypeError, ValueError, RuntimeError) as error:
            raise self._damaged(error) from None
        return True

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last saving."""
        return time.monotonic() - self._last >= max(self._every_s, self._took / _SHARE)

    def save(self, parts: Mapping[str, Stateful]) -> str | None:
        """Put every part's state away if enough time has passed; the file is replaced whole.

        Returns:
            What went wrong, e.g. a full disk, in one line; it is no reason to end the run.
        """
        if not self.due:
            return None
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        begin = time.monotonic()
        tensors: dict[str, Tensor] = {}
        tree = _flatten({name: one.state_dict() for name, one in parts.items()}, tensors)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as temporary:
                save_file(tensors, temporary, metadata={**self._identity, "tree": json.dumps(tree)})
        except (OSError, SafetensorError) as error:
            return f"no checkpoint could be written to {self.path} ({error}); the run goes on without"
        self._last = time.monotonic()
        self._took = self._last - begin
        return None

    @property
    def _way_out(self) -> str:
        return f"start anew, without --resume, or remove {self.path}"

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"the checkpoint {self.path} is damaged: {error!r}", self._way_out)

    def remove(self) -> None:
        """Remove the file; the run has ended."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        from safetensors import SafetensorError, safe_open

        away = self._way_out
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        except (SafetensorError, OSError) as error:
            raise InputError(f"the checkpoint {self.path} cannot be read: {error}", away) from None
        for key, value in self._identity.items():
            if metadata.get(key) != value:
                raise InputError(f"the checkpoint {self.path} is of another {key} than this run", away)
        try:
            state = _unflatten(json.loads(metadata["tree"]), tensors)
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(error) from None
        assert isinstance(state, dict)
        return state


class Generators:
    """The global generators, from which a network draws its noise."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def state_dict(self) -> dict[str, Any]:
        """Return their states."""
        state = {"cpu": torch.get_rng_state()}
        return state if self._device.type == "cpu" else {**state, "cuda": torch.cuda.get_rng_state(self._device)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore their states."""
        torch.set_rng_state(state["cpu"])
        if "cuda" in state:
            torch.cuda.set_rng_state(state["cuda"], self._device)


def _flatten(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Turn nested state into JSON, moving its tensors out; functions, which a new run builds anew, are left out."""
    if isinstance(value, Tensor):
        # A copy on the CPU: safetensors refuses tensors that share memory.
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        return {_LAST if _is_channels_last(value) else _TENSOR: name}
    if isinstance(value, Mapping):
        # Pairs, because JSON has no keys but texts and optimizers number their parameters.
        return {_ITEMS: [[key, _flatten(v, tensors)] for key, v in value.items() if not callable(v)]}
    if isinstance(value, tuple):
        return {_TUPLE: [_flatten(v, tensors) for v in value]}
    if isinstance(value, list):
        return [_flatten(v, tensors) for v in value]
    return value


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _unflatten(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unflatten(v, tensors) for v in value]
    if isinstance(value, dict):
        ((kind, content),) = value.items()
        if kind == _TENSOR:
            return tensors[content]
        if kind == _LAST:
            # In the layout that it had: operations on another one may round otherwise.
            return tensors[content].contiguous(memory_format=torch.channels_last)
        if kind == _TUPLE:
            return tuple(_unflatten(v, tensors) for v in content)
        return {key: _unflatten(v, tensors) for key, v in content}
    return value
