"""3×3 convolutions of batches that lie anywhere in memory, by the compiled kernels (``kernels/conv3.cpp``)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from hotlap.native.library import POOL_OUT, Conv3, chosen_instruction_set, kernels


@dataclass(frozen=True, slots=True)
class Convolution:
    """A 3×3 convolution with stride 1 of a batch; see ``hl_conv3`` in ``kernels/api.h``.

    Attributes:
        n: images.
        height: rows of the input, before pooling.
        width: its columns.
        into: channels of the input.
        out: channels of the output.
        pad: rows and columns of zeros around, 0 to 2.
        tile: side of Winograd's tiles, 2 to 8; 0 for the one that takes the fewest products.
        pool: ``POOL_OUT`` to keep the largest of each 2×2 outputs, ``POOL_IN`` where the input is behind such pooling.
    """

    n: int
    height: int
    width: int
    into: int
    out: int
    pad: int
    pool: int
    tile: int = 0

    @property
    def out_size(self) -> tuple[int, int]:
        """Rows and columns of the output."""
        share = 2 if self.pool == POOL_OUT else 1
        return (self.height + 2 * self.pad - 2) // share, (self.width + 2 * self.pad - 2) // share


class Convolver:
    """Convolves batches that lie anywhere in memory, channels-last; keeps the memory it works in.

    Not for use by several threads at once. Every address is of float32 but that of the index, of bytes; with ``tiles``,
    images, outputs and their gradients are of bfloat16.

    Args:
        fork: address of a function that runs work on threads; see ``hl_fork``. None to start threads each time.
        tiles: what multiplies numbers of bfloat16: ``amx``, or ``plain``, which is slow. None for Winograd's tiles.

    Raises:
        InputError: there are no kernels.
    """

    def __init__(self, fork: int | None, tiles: str | None = None) -> None:
        self._name = chosen_instruction_set().encode() if tiles is None else tiles.encode()
        library = kernels()
        assert isinstance(library, ctypes.CDLL)
        kind = "conv3" if tiles is None else "dots"
        self._wanted, self._forward, self._filters = (
            getattr(library, f"hl_{kind}_{what}") for what in ("workspace", "forward", "filters")
        )
        self._library, self._fork = library, fork
        self._workspace = np.empty(0, np.float32)

    def forward(
        self, conv: Convolution, strides: tuple[int, int, int], x: int, filters: int, y: int, index: int | None,
        threads: int,
    ) -> None:  # fmt: skip
        """Set the output, and with ``POOL_OUT`` the index.

        Args:
            conv: the convolution.
            strides: floats from one output channel, input channel and tap of the filters to the next.
            x: (n, height, width, into); with ``POOL_IN`` half as many rows and columns.
            filters: address of the first output and input channel's first tap.
            y: (n, rows, columns, out).
            index: as y, or as x with ``POOL_IN``; None without pooling.
            threads: how many work on it.

        Raises:
            ValueError: the sizes are out of range.
            MemoryError: there is not enough memory to work in.
        """
        at, space = self._prepare(conv, strides, threads)
        self._done(self._forward(self._name, threads, self._fork, at, x, filters, y, index, space))

    def filters(
        self, conv: Convolution, strides: tuple[int, int, int], x: int, dy: int, index: int | None, dw: int,
        threads: int,
    ) -> None:  # fmt: skip
        """Set the gradients of the filters; arguments and errors as in ``forward``, dy as y, and dw as the filters."""
        at, space = self._prepare(conv, strides, threads)
        self._done(self._filters(self._name, threads, self._fork, at, x, dy, index, dw, space))

    def _prepare(self, conv: Convolution, strides: tuple[int, int, int], threads: int) -> tuple[int, int]:
        self._conv = np.array(
            (conv.n, conv.height, conv.width, conv.into, conv.out, conv.pad, conv.pool, conv.tile, *strides), Conv3
        )
        at = int(self._conv.ctypes.data)
        floats = int(self._wanted(self._name, threads, at))
        self._done(min(floats, 0))
        if len(self._workspace) < floats:
            self._workspace = np.empty(floats, np.float32)
        return at, int(self._workspace.ctypes.data)

    def _done(self, code: int) -> None:
        if code:
            raise ValueError(self._library.hl_message(code).decode())
