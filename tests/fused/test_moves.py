"""Code for moving images on a GPU; what it computes is tested with ``techniques.moving``."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from hotlap.fused import kernels


def test_the_number_of_pixels_makes_no_other_code() -> None:
    # What the interpreter was given, or the compiler.
    options = getattr(kernels.move, "kwargs", None) or vars(kernels.move)
    assert "numbers" in options["do_not_specialize"]
