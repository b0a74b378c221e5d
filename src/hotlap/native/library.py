"""The compiled kernels as Python sees them: finding the library, its declarations, one network.

The C interface is in ``kernels/api.h``. The library is built when the package is installed, where there is a C++
compiler; without it everything runs on PyTorch.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hotlap.errors import InputError

ABI = 5
LAYERS = 32
CHANNELS = 16
THREADS = 64
COEFFICIENTS = 10
ISA_VARIABLE = "HOTLAP_ISA"
"""Environment variable that names the instruction set to use instead of the best one."""

Layer = np.dtype(
    [(name, np.int32) for name in ["kind", "out", "kernel", "pad", "pool", "pool_kind", "relu", "relu_first"]]
)
Rule = np.dtype(
    [(name, np.int32) for name in ["kind", "nesterov", "steps", "renormalise_every"]]
    + [(name, np.float32) for name in ["momentum", "weight_decay", "beta1", "beta2", "eps"]]
    + [("coefficients", np.float32, (COEFFICIENTS, 3))]
)
Average = np.dtype([("kind", np.int32), ("copy_back", np.int32), ("rate", np.float32)])
Conv3 = np.dtype(
    [(name, np.int32) for name in ["n", "height", "width", "in", "out", "pad", "pool", "tile"]]
    + [(name, np.int64) for name in ["filter_out", "filter_in", "filter_tap"]]
)
Norm = np.dtype(
    [(name, np.int32) for name in ["n", "channels", "height_in", "width_in", "height", "width"]]
    + [(name, np.int32) for name in ["pool", "activation", "type", "splits"]]
    + [("alpha", np.float32), ("eps", np.float32)]
)
View = np.dtype([(name, np.int16) for name in ["dy", "dx", "mirrored", "unused"]] + [("weight", np.float32)])

CONV, LINEAR = 0, 1
MAX, AVERAGE = 0, 1
FROZEN, SGD, ADAM, MUON = 0, 1, 2, 3
POOL_NONE, POOL_OUT, POOL_IN = 0, 1, 2
RELU, SILU, GELU, CELU = 1, 2, 3, 4
FLOAT32, BFLOAT16 = 0, 1

_POINTER, _INT, _LONG, _FLOAT = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_float
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "hl_abi": (_INT, []),
    "hl_message": (ctypes.c_char_p, [_INT]),
    "hl_instruction_sets": (ctypes.c_char_p, []),
    "hl_create": (
        _INT,
        [ctypes.c_char_p, *[_INT] * 6, _POINTER, _INT, *[_POINTER] * 3, _FLOAT, ctypes.POINTER(_POINTER)],
    ),
    "hl_destroy": (None, [_POINTER]),
    "hl_parameter_count": (_LONG, [_POINTER]),
    "hl_set_parameters": (_INT, [_POINTER, _POINTER]),
    "hl_get_parameters": (_INT, [_POINTER, _POINTER]),
    "hl_get_gradients": (_INT, [_POINTER, _POINTER]),
    "hl_state_count": (_LONG, [_POINTER]),
    "hl_get_state": (_INT, [_POINTER, _POINTER, ctypes.POINTER(_LONG)]),
    "hl_set_state": (_INT, [_POINTER, _POINTER, _LONG]),
    "hl_train": (_INT, [*[_POINTER] * 8, _LONG, _POINTER]),
    "hl_gradients": (_INT, [*[_POINTER] * 5, _LONG, _POINTER]),
    "hl_conv3_workspace": (_LONG, [ctypes.c_char_p, _INT, _POINTER]),
    "hl_conv3_forward": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 7]),
    "hl_conv3_filters": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 7]),
    "hl_gather": (_INT, [_INT, _POINTER, _LONG, *[_INT] * 3, *[_POINTER] * 4]),
    "hl_has_amx": (_INT, []),
    "hl_dots_workspace": (_LONG, [ctypes.c_char_p, _INT, _POINTER]),
    "hl_dots_forward": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 7]),
    "hl_dots_filters": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 7]),
    "hl_norm_workspace": (_LONG, [_POINTER]),
    "hl_norm_forward": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 11]),
    "hl_norm_backward": (_INT, [ctypes.c_char_p, _INT, *[_POINTER] * 13]),
    "hl_begin_average": (_INT, [_POINTER]),
    "hl_finish": (_INT, [_POINTER]),
    "hl_logits": (_INT, [_POINTER, _POINTER, _POINTER, _LONG, _POINTER, _INT, _INT, _POINTER]),
}


@cache
def kernels() -> ctypes.CDLL | str:
    """The library, or why there is none."""
    path = Path(__file__).with_name("_kernels.so")
    if not path.exists():
        return "the package was installed without a C++ compiler"
    try:
        library = ctypes.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        return f"the compiled kernels cannot be loaded ({error})"
    if library.hl_abi() != ABI:
        return "the compiled kernels are of another version"
    return library


def missing() -> str | None:
    """Say why there are no compiled kernels; None where they are there."""
    library = kernels()
    return library if isinstance(library, str) else None


def has_amx() -> bool:
    """Tell whether there are kernels for this processor's matrix registers, and ``HOTLAP_ISA`` asks for no others."""
    library = kernels()
    return (
        os.environ.get(ISA_VARIABLE, "avx512") == "avx512"
        and not isinstance(library, str)
        and bool(library.hl_has_amx())
    )


def instruction_sets() -> tuple[str, ...]:
    """Names of the instruction sets that can be used here, best first; none without kernels."""
    library = kernels()
    return () if isinstance(library, str) else tuple(library.hl_instruction_sets().decode().split())


def chosen_instruction_set() -> str:
    """The instruction set that is used: the best one, or that which ``HOTLAP_ISA`` names.

    Raises:
        InputError: there are no kernels, or not for the named instruction set.
    """
    there = instruction_sets()
    if reason := missing():
        raise InputError(f"no compiled kernels: {reason}", "reinstall with a C++ compiler, or use --backend torch")
    wanted = os.environ.get(ISA_VARIABLE, "")
    if wanted and wanted not in there:
        raise InputError(f"{ISA_VARIABLE}={wanted}, but there is only {', '.join(there)}", f"unset {ISA_VARIABLE}")
    return wanted or there[0]


class Network:
    """A network in the compiled kernels; see ``kernels/api.h``.

    Args:
        shape: (C, H, W) of the images.
        crop: side of the central window that is seen; 0 for the whole image.
        classes: number of classes.
        layers: array of ``Layer``.
        rules: array of ``Rule``, of weight and bias of each layer.
        mean: of each channel, for pixels scaled to 0–1.
        std: of each channel.
        smoothing: share of the target spread over all classes.
        threads: how many work on it.

    Raises:
        InputError: there are no kernels.
        ValueError: the layers do not go together.
        MemoryError: there is not enough memory.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        crop: int,
        classes: int,
        layers: NDArray[Any],
        rules: NDArray[Any],
        mean: Sequence[float],
        std: Sequence[float],
        smoothing: float,
        threads: int,
    ) -> None:
        name = chosen_instruction_set()
        library = kernels()
        assert isinstance(library, ctypes.CDLL)
        self._library = library
        self.shape, self.classes = shape, classes
        self._handle = _POINTER()
        means, stds = (np.asarray(values, np.float32) for values in (mean, std))
        if not len(means) == len(stds) == shape[0] or len(rules) != 2 * len(layers):
            raise ValueError("mean and std are for each channel, and rules for weight and bias of each layer")
        self._done(
            library.hl_create(
                name.encode(), threads, *shape, crop, classes, _at(layers, Layer), len(layers), _at(rules, Rule),
                _at(means), _at(stds), smoothing, ctypes.byref(self._handle),
            )
        )  # fmt: skip
        self._count = int(library.hl_parameter_count(self._handle))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.hl_destroy(self._handle)

    @property
    def parameters(self) -> NDArray[np.float32]:
        """All parameters in PyTorch's layout, one after another; zeros for a missing bias."""
        values = np.empty(self._count, np.float32)
        self._done(self._library.hl_get_parameters(self._handle, _at(values)))
        return values

    @parameters.setter
    def parameters(self, values: NDArray[np.float32]) -> None:
        if values.shape != (self._count,):
            raise ValueError(f"there are {self._count} parameters, not {values.shape}")
        self._done(self._library.hl_set_parameters(self._handle, _at(values, np.float32)))

    def state(self) -> tuple[NDArray[np.float32], int]:
        """Return everything that the next steps depend on, and the number of steps done."""
        values = np.empty(int(self._library.hl_state_count(self._handle)), np.float32)
        steps = _LONG()
        self._done(self._library.hl_get_state(self._handle, _at(values), ctypes.byref(steps)))
        return values, steps.value

    def restore(self, values: NDArray[np.float32], steps: int) -> None:
        """Set what ``state`` returned, of a network laid out alike.

        Raises:
            ValueError: it is of a network that is laid out otherwise.
        """
        if values.shape != (int(self._library.hl_state_count(self._handle)),):
            raise ValueError("the stored state is of other kernels: another instruction set, or another version")
        self._done(self._library.hl_set_state(self._handle, _at(values, np.float32), steps))

    def train(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int32],
        order: NDArray[np.int64],
        moves: NDArray[np.int16],
        starts: NDArray[np.int64],
        rates: NDArray[np.float32],
        average: NDArray[Any] | None,
    ) -> NDArray[np.float32]:
        """Take optimizer steps.

        Args:
            images: (N, C, H, W).
            labels: (N,).
            order: which images.
            moves: for each of ``order``, rows and columns that it is shifted by, and whether it is mirrored.
            starts: (steps + 1) where the batches of ``order`` begin and end.
            rates: (steps, 2 · layers) learning rates of weights and biases.
            average: (steps) of ``Average``, what becomes of the average after each step; None for no average.

        Returns:
            (steps) mean loss of each batch.
        """
        self._check_images(images, order)
        steps = len(starts) - 1
        losses = np.empty(steps, np.float32)
        if moves.shape != (len(order), 3) or int(starts[-1]) > len(order) or len(rates) != steps:
            raise ValueError("order, moves, starts and rates do not go together")
        self._done(
            self._library.hl_train(
                self._handle, _at(images, np.uint8), _at(labels, np.int32), _at(order, np.int64),
                _at(moves, np.int16), _at(starts, np.int64), _at(rates, np.float32),
                None if average is None else _at(average, Average), steps, _at(losses),
            )
        )  # fmt: skip
        return losses

    def gradients(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int32],
        order: NDArray[np.int64],
        moves: NDArray[np.int16],
    ) -> tuple[float, NDArray[np.float32]]:
        """Return the mean loss of a batch and the gradients of all parameters, which stay as they are."""
        self._check_images(images, order)
        loss, values = np.empty(1, np.float32), np.empty(self._count, np.float32)
        self._done(
            self._library.hl_gradients(
                self._handle, _at(images, np.uint8), _at(labels, np.int32), _at(order, np.int64),
                _at(moves, np.int16), len(order), _at(loss),
            )
        )  # fmt: skip
        self._done(self._library.hl_get_gradients(self._handle, _at(values)))
        return float(loss[0]), values

    def begin_average(self) -> None:
        """Begin the average with the parameters as they are."""
        self._done(self._library.hl_begin_average(self._handle))

    def finish(self) -> None:
        """Set the parameters to their average, where one has begun."""
        self._done(self._library.hl_finish(self._handle))

    def logits(
        self,
        images: NDArray[np.uint8],
        which: NDArray[np.int64],
        views: NDArray[Any],
        out: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Return the weighted sum of the logits of some images over ``views``, (n, classes); added to ``out``."""
        self._check_images(images, which)
        made = np.empty((len(which), self.classes), np.float32) if out is None else out
        self._done(
            self._library.hl_logits(
                self._handle, _at(images, np.uint8), _at(which, np.int64), len(which), _at(views, View),
                len(views), int(out is not None), _at(made, np.float32),
            )
        )  # fmt: skip
        return made

    def _check_images(self, images: NDArray[np.uint8], which: NDArray[np.int64]) -> None:
        if images.shape[1:] != self.shape:
            raise ValueError(f"images are {images.shape[1:]}, not {self.shape}")
        if len(which) and not 0 <= int(which.min()) <= int(which.max()) < len(images):
            raise ValueError("there are no such images")

    def _done(self, code: int) -> None:
        if code == -2:
            raise MemoryError("not enough memory for the network")
        if code:
            raise ValueError(self._library.hl_message(code).decode())


def _at(array: NDArray[Any], dtype: Any = None) -> int:
    """Address of an array's first element; the kernels know nothing of strides."""
    if not array.flags.c_contiguous or (dtype is not None and array.dtype != dtype):
        raise ValueError(f"an array must be contiguous {np.dtype(dtype or array.dtype)}, not {array.dtype}")
    return int(array.ctypes.data)
